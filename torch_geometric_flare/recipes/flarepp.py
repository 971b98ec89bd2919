"""Hyperparameters of the FLARE++ paper's trainings.

Source: [arXiv:2608.11519](https://arxiv.org/abs/2608.11519). All other settings are
those of the FLARE paper, [arXiv:2508.12594](https://arxiv.org/abs/2508.12594).
"""

from dataclasses import replace

from torch_geometric_flare.nn import FLAREPP
from torch_geometric_flare.recipes.recipe import Recipe

FLAREPP_PAPER = Recipe(
    model_class=FLAREPP,
    model={
        "hidden_channels": 128,
        "num_layers": 8,
        "heads": 8,
        "num_latents": 64,
        "init": "paper",
    },
)
"""Common settings of the FLARE++ paper; on 2D data sets with two samples per step."""

FLAREPP_ELASTICITY = FLAREPP_PAPER
"""Elasticity: stress of a hyper-elastic block with a hole, 972 points."""

FLAREPP_DARCY = replace(
    FLAREPP_PAPER,
    derivative_weight=0.1,
    model={**FLAREPP_PAPER.model, "num_latents": 128},
)
"""Darcy flow on a grid of 85 × 85; the loss includes the field's derivatives."""

FLAREPP_AIRFOIL = FLAREPP_PAPER
"""Airfoil: Mach number on a C-grid of 221 × 51."""

FLAREPP_PIPE = replace(FLAREPP_PAPER, model={**FLAREPP_PAPER.model, "num_layers": 2})
"""Pipe flow: horizontal velocity on a grid of 129 × 129."""

FLAREPP_DRIVAERML = replace(
    FLAREPP_PAPER,
    batch_size=1,
    weight_decay=1e-2,
    model={**FLAREPP_PAPER.model, "num_layers": 4},
)
"""DrivAerML: kinematic pressure at 40,000 points of a car's surface."""
