"""Hyperparameters of Transolver in the FLARE paper's comparison.

Source: [arXiv:2508.12594](https://arxiv.org/abs/2508.12594); the network is from
[arXiv:2402.02366](https://arxiv.org/abs/2402.02366). The recipes `TRANSOLVER_CONV_...`
are the variant with convolutions, for structured data sets.
"""

from dataclasses import replace

from torch_geometric_flare.nn import Transolver
from torch_geometric_flare.recipes.recipe import Recipe

TRANSOLVER_PAPER = Recipe(
    model_class=Transolver,
    model={
        "hidden_channels": 128,
        "num_layers": 8,
        "heads": 8,
        "num_slices": 64,
        "mlp_ratio": 1,
        "init": "paper",
    },
    batch_size=4,
    gradient_clip=0.1,
    pct_start=0.3,
)
"""Common settings of all trainings of Transolver in the comparison."""


def _on_grid(rows: int, columns: int) -> Recipe:
    model = {**TRANSOLVER_PAPER.model, "grid": (rows, columns)}
    return replace(TRANSOLVER_PAPER, model=model)


TRANSOLVER_ELASTICITY = replace(TRANSOLVER_PAPER, batch_size=1)
"""Elasticity: stress of a hyper-elastic block with a hole, 972 points."""

TRANSOLVER_DARCY = replace(TRANSOLVER_PAPER, derivative_weight=0.1)
"""Darcy flow on a grid of 85 × 85; the loss includes the field's derivatives."""

TRANSOLVER_AIRFOIL = TRANSOLVER_PAPER
"""Airfoil: Mach number on a C-grid of 221 × 51."""

TRANSOLVER_PIPE = TRANSOLVER_PAPER
"""Pipe flow: horizontal velocity on a grid of 129 × 129."""

TRANSOLVER_DRIVAERML = replace(TRANSOLVER_PAPER, batch_size=1, weight_decay=1e-4)
"""DrivAerML: kinematic pressure at 40,000 points of a car's surface."""

TRANSOLVER_LPBF = replace(TRANSOLVER_DRIVAERML, epochs=250)
"""Laser powder bed fusion: vertical displacement, up to 47,542 points."""

TRANSOLVER_CONV_DARCY = replace(_on_grid(85, 85), derivative_weight=0.1)
"""`TRANSOLVER_DARCY` with convolutions."""

TRANSOLVER_CONV_AIRFOIL = _on_grid(221, 51)
"""`TRANSOLVER_AIRFOIL` with convolutions."""

TRANSOLVER_CONV_PIPE = _on_grid(129, 129)
"""`TRANSOLVER_PIPE` with convolutions."""
