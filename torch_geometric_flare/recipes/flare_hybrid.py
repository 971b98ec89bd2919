"""Hyperparameters of `FLAREHybrid`, all of them ours.

Training follows the FLARE paper on the same set,
[arXiv:2508.12594](https://arxiv.org/abs/2508.12594). The radius is about twice the
distance of neighbours on the set's usual mesh; another resolution keeps it.
"""

from dataclasses import replace

from torch_geometric_flare.nn import FLAREHybrid
from torch_geometric_flare.recipes.flare import (
    FLARE_DARCY_QUICK,
    FLARE_ELASTICITY_QUICK,
)
from torch_geometric_flare.recipes.recipe import Recipe

_Arguments = dict[str, int | float | str | bool]


def _hybrid(pos_channels: int, radius: float, num_latents: int) -> _Arguments:
    return {
        "hidden_channels": 64,
        "num_layers": 8,
        "heads": 8,
        "num_latents": num_latents,
        "kv_layers": -1,
        "mlp_layers": 1,
        "pos_channels": pos_channels,
        "radius": radius,
    }


FLARE_HYBRID_DARCY = Recipe(
    model_class=FLAREHybrid,
    model=_hybrid(pos_channels=2, radius=2 / 84, num_latents=256),
    derivative_weight=0.1,
)
"""Darcy flow on a grid of 85 × 85: the radius is two cells."""

FLARE_HYBRID_ELASTICITY = replace(
    FLARE_HYBRID_DARCY,
    model=_hybrid(pos_channels=2, radius=0.07, num_latents=64),
    derivative_weight=0.0,
)
"""Elasticity: about twice the distance of neighbours among 972 points."""


def _quick(flare: Recipe, radius: float) -> Recipe:
    model = _hybrid(pos_channels=2, radius=radius, num_latents=64) | {"num_layers": 4}
    return replace(flare, model_class=FLAREHybrid, model=model)


FLARE_HYBRID_DARCY_QUICK = _quick(FLARE_DARCY_QUICK, radius=2 / 42)
"""A quick recipe for Darcy flow on a grid of 43 × 43: the radius is two cells."""

FLARE_HYBRID_ELASTICITY_QUICK = _quick(FLARE_ELASTICITY_QUICK, radius=0.07)
"""A quick recipe for elasticity."""
