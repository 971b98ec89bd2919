"""Hyperparameters of the vanilla transformer in the FLARE paper's comparison.

Source: [arXiv:2508.12594](https://arxiv.org/abs/2508.12594), which reports results for
Elasticity, Darcy and Airfoil.
"""

from dataclasses import replace

from torch_geometric_flare.nn import Transformer
from torch_geometric_flare.recipes.recipe import Recipe

TRANSFORMER_PAPER = Recipe(
    model_class=Transformer,
    model={
        "hidden_channels": 80,
        "num_layers": 8,
        "heads": 5,
        "mlp_ratio": 4,
        "init": "paper",
    },
)
"""Common settings of all trainings of the transformer in the comparison."""

TRANSFORMER_ELASTICITY = TRANSFORMER_PAPER
"""Elasticity: stress of a hyper-elastic block with a hole, 972 points."""

TRANSFORMER_DARCY = replace(TRANSFORMER_PAPER, derivative_weight=0.1)
"""Darcy flow on a grid of 85 × 85; the loss includes the field's derivatives."""

TRANSFORMER_AIRFOIL = TRANSFORMER_PAPER
"""Airfoil: Mach number on a C-grid of 221 × 51."""

TRANSFORMER_PIPE = TRANSFORMER_PAPER
"""Pipe flow: horizontal velocity on a grid of 129 × 129; no published result."""

TRANSFORMER_DRIVAERML = replace(TRANSFORMER_PAPER, batch_size=1, weight_decay=1e-4)
"""DrivAerML: kinematic pressure at 40,000 points of a car; no published result."""

TRANSFORMER_LPBF = replace(TRANSFORMER_DRIVAERML, epochs=250)
"""Laser powder bed fusion: vertical displacement; no published result."""
