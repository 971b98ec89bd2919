"""Hyperparameters of the FLARE paper's trainings, and quick variants.

Each is a base recipe with changes for one data set. Define a new one with
`dataclasses.replace(FLARE_PAPER, epochs=100)`.

Source of all but the quick recipes: Puri et al., FLARE: Fast Low-rank Attention Routing
Engine, [arXiv:2508.12594](https://arxiv.org/abs/2508.12594).
"""

from dataclasses import replace
from typing import Any

from torch_geometric_flare.nn import FLARE
from torch_geometric_flare.recipes.recipe import Recipe, Value

FLARE_PAPER = Recipe(
    model_class=FLARE,
    model={
        "hidden_channels": 64,
        "num_layers": 8,
        "heads": 8,
        "num_latents": 64,
        "init": "paper",
    },
)
"""Common settings of the FLARE paper; on 2D data sets with two samples per step."""


def _flare(heads: int, num_latents: int) -> dict[str, Value]:
    return {**FLARE_PAPER.model, "heads": heads, "num_latents": num_latents}


FLARE_ELASTICITY = replace(FLARE_PAPER, model=_flare(heads=8, num_latents=64))
"""Elasticity: stress of a hyper-elastic block with a hole, 972 points."""

FLARE_DARCY = replace(
    FLARE_PAPER, derivative_weight=0.1, model=_flare(heads=16, num_latents=256)
)
"""Darcy flow on a grid of 85 × 85; the loss includes the field's derivatives."""

FLARE_AIRFOIL = replace(FLARE_PAPER, model=_flare(heads=8, num_latents=256))
"""Airfoil: Mach number on a C-grid of 221 × 51."""

FLARE_PIPE = replace(FLARE_PAPER, model=_flare(heads=8, num_latents=128))
"""Pipe flow: horizontal velocity on a grid of 129 × 129."""

FLARE_DRIVAERML = replace(
    FLARE_PAPER,
    batch_size=1,
    weight_decay=1e-4,
    model=_flare(heads=8, num_latents=256),
)
"""DrivAerML: kinematic pressure at 40,000 points of a car's surface."""

FLARE_LPBF = replace(
    FLARE_PAPER,
    epochs=250,
    batch_size=1,
    weight_decay=1e-4,
    model=_flare(heads=8, num_latents=128),
)
"""Laser powder bed fusion: vertical displacement, up to 47,542 points."""

_QUICK: dict[str, int | float | str | bool] = {
    "hidden_channels": 64,
    "num_layers": 4,
    "heads": 8,
    "num_latents": 64,
    "kv_layers": 0,
    "mlp_layers": 1,
}


def _quick(paper: Recipe, **changes: Any) -> Recipe:
    """Return a short training: scaled init, Muon, half the blocks, shallow MLPs."""
    return replace(
        paper,
        model=_QUICK,
        optimizer="muon",
        learning_rate=2e-3,
        cycle_momentum=False,
        **changes,
    )


FLARE_DRIVAERML_QUICK = _quick(
    FLARE_DRIVAERML, epochs=20, num_points=1000, coordinates="box"
)
"""An unpublished recipe that learns cars on a CPU within minutes.

It has half the blocks, shallower MLPs, a quarter of the latents, Muon, twice the
learning rate and 1,000 random points per step. With 100 cars, it takes 2,000 steps.
Twice the epochs reduce the error by a quarter. Its errors are not published results.
The other quick recipes follow it.
"""

FLARE_ELASTICITY_QUICK = _quick(
    FLARE_ELASTICITY, epochs=6, batch_size=1, coordinates="box", fourier_octaves=4
)
"""An unpublished quick recipe for elasticity: 6,000 steps with 1,000 blocks."""

FLARE_DARCY_QUICK = _quick(FLARE_DARCY, epochs=5, coordinates="box", fourier_octaves=4)
"""An unpublished quick recipe for Darcy flow on 43 × 43: 2,500 steps, 1,000 flows."""

FLARE_AIRFOIL_QUICK = _quick(FLARE_AIRFOIL, epochs=66, batch_size=1)
"""An unpublished quick recipe for airfoils on the full grid: 3,960 steps with 60.

Random points would hide the shape: they change a mean over the points of a wall as much
as a new shape does.
"""

FLARE_PIPE_QUICK = _quick(
    FLARE_PIPE, epochs=20, batch_size=1, num_points=1000, coordinates="box"
)
"""An unpublished quick recipe for the pipe, 8,000 steps with 1,000 random points.

Fourier features increased the error from 0.014 to 0.020.
"""

FLARE_LPBF_QUICK = _quick(FLARE_LPBF, epochs=24, num_points=1000)
"""An unpublished quick recipe for printed parts, 14,400 steps with 1,000 points."""

FLARE_LINEAR_KV = replace(
    FLARE_PAPER,
    model={**FLARE_PAPER.model, "hidden_channels": 128, "kv_layers": -1},
)
"""The FLARE baseline of the FLARE++ paper on 2D data sets.

Keys and values are one residual linear map each, and the hidden width is 128
([arXiv:2608.11519](https://arxiv.org/abs/2608.11519)). All other settings are those of
`FLARE_PAPER`.
"""
