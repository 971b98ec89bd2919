"""Hyperparameters of GNOT in the FLARE paper's comparison.

Source: [arXiv:2508.12594](https://arxiv.org/abs/2508.12594); the network is from
[arXiv:2302.14376](https://arxiv.org/abs/2302.14376). On structured data sets, the
comparison embeds distances to a reference grid instead of the inputs, which then reach
only the gates. The recipes `..._WITH_INPUTS` also embed the inputs. They are not part
of the comparison, so published results of GNOT do not apply to them.
"""

from dataclasses import replace

from torch_geometric_flare.nn import GNOT
from torch_geometric_flare.recipes.recipe import Recipe

GNOT_PAPER = Recipe(
    model_class=GNOT,
    model={
        "hidden_channels": 128,
        "num_layers": 8,
        "heads": 8,
        "num_experts": 3,
        "mlp_ratio": 2,
        "init": "paper",
    },
    batch_size=4,
    gradient_clip=0.1,
    pct_start=0.3,
)
"""Common settings of all trainings of GNOT in the comparison."""


def _on_grid(rows: int, columns: int, embed_inputs: bool = False) -> Recipe:
    model = {**GNOT_PAPER.model, "grid": (rows, columns)}
    if embed_inputs:
        model["embed_inputs"] = True
    return replace(GNOT_PAPER, model=model)


GNOT_ELASTICITY = replace(GNOT_PAPER, batch_size=2)
"""Elasticity: stress of a hyper-elastic block with a hole, 972 points."""

GNOT_DARCY = replace(_on_grid(85, 85), derivative_weight=0.1)
"""Darcy flow on a grid of 85 × 85; the loss includes the field's derivatives."""

GNOT_AIRFOIL = _on_grid(221, 51)
"""Airfoil: Mach number on a C-grid of 221 × 51."""

GNOT_PIPE = _on_grid(129, 129)
"""Pipe flow: horizontal velocity on a grid of 129 × 129."""

GNOT_DARCY_WITH_INPUTS = replace(
    _on_grid(85, 85, embed_inputs=True), derivative_weight=0.1
)
"""`GNOT_DARCY` with the inputs in the embeddings; no published results."""

GNOT_AIRFOIL_WITH_INPUTS = _on_grid(221, 51, embed_inputs=True)
"""`GNOT_AIRFOIL` with the inputs in the embeddings; no published results."""

GNOT_PIPE_WITH_INPUTS = _on_grid(129, 129, embed_inputs=True)
"""`GNOT_PIPE` with the inputs in the embeddings; no published results."""

GNOT_DRIVAERML = replace(GNOT_PAPER, batch_size=1, weight_decay=1e-4)
"""DrivAerML: kinematic pressure at 40,000 points of a car's surface."""

GNOT_LPBF = replace(GNOT_DRIVAERML, epochs=250)
"""Laser powder bed fusion: vertical displacement, up to 47,542 points."""
