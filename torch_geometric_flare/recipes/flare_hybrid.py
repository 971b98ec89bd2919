"""Hyperparameters of `FLAREHybrid`, all unpublished.

Training follows the FLARE paper on the same data set,
[arXiv:2508.12594](https://arxiv.org/abs/2508.12594). The radius is about twice the
distance of neighbors on the usual mesh of the data set and does not change with the
resolution. Quick recipes use whole meshes, because few random points would be within
the radius.
"""

from dataclasses import replace

from torch_geometric_flare.nn import FLAREHybrid
from torch_geometric_flare.recipes.flare import (
    FLARE_AIRFOIL_QUICK,
    FLARE_DARCY_QUICK,
    FLARE_DRIVAERML_QUICK,
    FLARE_ELASTICITY_QUICK,
    FLARE_LPBF_QUICK,
    FLARE_PIPE_QUICK,
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
        "init": "paper",
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
"""Elasticity: about twice the distance of neighbors among 972 points."""

FLARE_HYBRID_AIRFOIL = replace(
    FLARE_HYBRID_ELASTICITY,
    model=_hybrid(pos_channels=2, radius=0.1, num_latents=256),
)
"""Airfoil: the radius is a tenth of the chord.

Distances on the C-grid of 221 × 51 range from a hundredth of the chord to five chords,
and no radius fits all. This one includes several cells near the wall, where shocks
occur. In the far field, where the flow is smooth, points have no neighbors within it,
and only the global mixer acts.
"""

FLARE_HYBRID_PIPE = replace(
    FLARE_HYBRID_ELASTICITY,
    model=_hybrid(pos_channels=2, radius=0.05, num_latents=128),
)
"""Pipe flow on a grid of 129 × 129: the radius is six cells across the pipe.

Cells are ten times as long as wide, and the flow varies across the pipe. A radius of
two cells along the pipe would include 130 points instead of 13.
"""

FLARE_HYBRID_DRIVAERML = replace(
    FLARE_HYBRID_ELASTICITY,
    batch_size=1,
    weight_decay=1e-4,
    model=_hybrid(pos_channels=3, radius=0.05, num_latents=256),
)
"""DrivAerML: 5 cm, twice the distance of neighbors among 40,000 points of a car."""

FLARE_HYBRID_LPBF = replace(
    FLARE_HYBRID_DRIVAERML,
    epochs=250,
    model=_hybrid(pos_channels=3, radius=2.0, num_latents=128),
)
"""Laser powder bed fusion: 2 mm, two cells of the simulated parts."""


def _quick(flare: Recipe, radius: float, pos_channels: int = 2) -> Recipe:
    model = _hybrid(pos_channels, radius, num_latents=64)
    model |= {"num_layers": 4, "init": "scaled"}
    return replace(flare, model_class=FLAREHybrid, model=model, num_points=None)


FLARE_HYBRID_DARCY_QUICK = _quick(FLARE_DARCY_QUICK, radius=2 / 42)
"""A quick recipe for Darcy flow on a grid of 43 × 43: the radius is two cells."""

FLARE_HYBRID_ELASTICITY_QUICK = _quick(FLARE_ELASTICITY_QUICK, radius=0.07)
"""A quick recipe for elasticity."""

FLARE_HYBRID_AIRFOIL_QUICK = _quick(FLARE_AIRFOIL_QUICK, radius=0.1)
"""A quick recipe for the airfoil."""

FLARE_HYBRID_PIPE_QUICK = _quick(FLARE_PIPE_QUICK, radius=0.05)
"""A quick recipe for the pipe."""

FLARE_HYBRID_DRIVAERML_QUICK = _quick(FLARE_DRIVAERML_QUICK, 0.1, pos_channels=3)
"""A quick recipe for cars of 10,000 points, which are twice as far apart: 10 cm."""

FLARE_HYBRID_LPBF_QUICK = _quick(FLARE_LPBF_QUICK, 2.0, pos_channels=3)
"""A quick recipe for printed parts."""
