"""Hyperparameters of PerceiverIO in the FLARE paper's comparison.

Source: [arXiv:2508.12594](https://arxiv.org/abs/2508.12594); the network is
PerceiverIO, [arXiv:2107.14795](https://arxiv.org/abs/2107.14795), with FLARE's input
and output MLPs.
"""

from dataclasses import replace

from torch_geometric_flare.nn import PerceiverIO
from torch_geometric_flare.recipes.recipe import Recipe

PERCEIVER_IO_PAPER = Recipe(
    model_class=PerceiverIO,
    model={
        "hidden_channels": 128,
        "num_layers": 8,
        "heads": 8,
        "num_latents": 512,
        "mlp_ratio": 4,
        "init": "paper",
    },
)
"""Common settings of all trainings of PerceiverIO in the comparison."""

PERCEIVER_IO_ELASTICITY = PERCEIVER_IO_PAPER
"""Elasticity: stress of a hyper-elastic block with a hole, 972 points."""

PERCEIVER_IO_DARCY = replace(PERCEIVER_IO_PAPER, derivative_weight=0.1)
"""Darcy flow on a grid of 85 × 85; the loss includes the field's derivatives."""

PERCEIVER_IO_AIRFOIL = PERCEIVER_IO_PAPER
"""Airfoil: Mach number on a C-grid of 221 × 51."""

PERCEIVER_IO_PIPE = PERCEIVER_IO_PAPER
"""Pipe flow: horizontal velocity on a grid of 129 × 129."""

PERCEIVER_IO_DRIVAERML = replace(PERCEIVER_IO_PAPER, batch_size=1, weight_decay=1e-4)
"""DrivAerML: kinematic pressure at 40,000 points of a car's surface."""

PERCEIVER_IO_LPBF = replace(PERCEIVER_IO_DRIVAERML, epochs=250)
"""Laser powder bed fusion: vertical displacement, up to 47,542 points."""
