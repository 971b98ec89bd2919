"""Hyperparameters of the Latent Neural Operator in the FLARE paper's comparison.

Source: [arXiv:2508.12594](https://arxiv.org/abs/2508.12594); the network is from
[arXiv:2406.03923](https://arxiv.org/abs/2406.03923).
"""

from dataclasses import replace

from torch_geometric_flare.nn import LNO
from torch_geometric_flare.recipes.recipe import Recipe

LNO_PAPER = Recipe(
    model_class=LNO,
    model={
        "hidden_channels": 128,
        "num_layers": 4,
        "heads": 8,
        "num_modes": 256,
        "mlp_layers": 2,
    },
    batch_size=4,
    betas=(0.9, 0.99),
    gradient_clip=1000.0,
    pct_start=0.2,
    div_factor=1e4,
)
"""Common settings of all trainings of LNO in the comparison."""

LNO_ELASTICITY = replace(
    LNO_PAPER, model={**LNO_PAPER.model, "hidden_channels": 192, "mlp_layers": 3}
)
"""Elasticity: stress of a hyper-elastic block with a hole, 972 points."""

LNO_DARCY = replace(LNO_PAPER, derivative_weight=0.1)
"""Darcy flow on a grid of 85 × 85; the loss includes the field's derivatives."""

LNO_AIRFOIL = replace(LNO_PAPER, model={**LNO_PAPER.model, "num_layers": 8})
"""Airfoil: Mach number on a C-grid of 221 × 51."""

LNO_PIPE = LNO_AIRFOIL
"""Pipe flow: horizontal velocity on a grid of 129 × 129."""

LNO_DRIVAERML = replace(LNO_PAPER, batch_size=1, weight_decay=1e-4)
"""DrivAerML: kinematic pressure at 40,000 points of a car's surface."""

LNO_LPBF = replace(LNO_DRIVAERML, epochs=250)
"""Laser powder bed fusion: vertical displacement, up to 47,542 points."""
