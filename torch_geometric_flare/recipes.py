"""Hyperparameters of the published trainings, and of a quick one.

A recipe is a base plus what one dataset changes, so that a new one is written as
`dataclasses.replace(FLARE_PAPER, epochs=100)`.

Source of all but the quick recipe: Puri et al., FLARE: Fast Low-rank Attention Routing
Engine, [arXiv:2508.12594](https://arxiv.org/abs/2508.12594).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Recipe:
    r"""How to train a surrogate: AdamW under a one-cycle schedule.

    Args:
        epochs: Passes over the training split.
        batch_size: Samples in a step.
        num_points: Random points taken of each sample in each epoch, by the transform
            `FixedPoints(num_points, replace=False)`; `None` for all.
        learning_rate: Peak learning rate.
        betas: Decay rates of Adam's two averages.
        cycle_momentum: Let the schedule move the first of `betas` from 0.95 down to
            0.85 and back, as `OneCycleLR` does unless told otherwise.
        weight_decay: Decoupled weight decay; never on biases, norms and latents.
        gradient_clip: Largest norm of the gradient.
        pct_start: Share of the steps in which the learning rate rises.
        div_factor: Peak over initial learning rate.
        final_div_factor: Initial over final learning rate.
        ema_decay: Decay of the exponential average of the weights; 0 for none. Short
            trainings lower it, see `training.scaled_ema_decay`.
        model: Keyword arguments of the model, without its numbers of input and output
            channels.

    Raises:
        ValueError: If a number is out of its range.
    """

    epochs: int = 500
    batch_size: int = 2
    num_points: int | None = None
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    cycle_momentum: bool = True
    weight_decay: float = 1e-5
    gradient_clip: float = 1.0
    pct_start: float = 0.1
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    ema_decay: float = 0.999
    model: Mapping[str, int | float | str | bool] = field(
        default_factory=dict, hash=False
    )

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "num_points"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        for name in ("learning_rate", "gradient_clip", "div_factor"):
            value = getattr(self, name)
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        if not self.final_div_factor > 0:
            raise ValueError(
                f"final_div_factor must be positive, got {self.final_div_factor}"
            )
        if not self.weight_decay >= 0:
            raise ValueError(
                f"weight_decay must not be negative, got {self.weight_decay}"
            )
        if not 0 < self.pct_start < 1:
            raise ValueError(
                f"pct_start must lie between 0 and 1, got {self.pct_start}"
            )
        for name, value in (
            ("ema_decay", self.ema_decay),
            ("betas[0]", self.betas[0]),
            ("betas[1]", self.betas[1]),
        ):
            if not 0 <= value < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {value}")
        object.__setattr__(self, "model", MappingProxyType(dict(self.model)))

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values, the inverse of `Recipe(**...)`."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return values | {"model": dict(self.model)}

    # A read-only view of a dictionary can neither be copied nor pickled.
    def __getstate__(self) -> dict[str, Any]:
        return self.to_dict()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, model=MappingProxyType(state["model"]))


FLARE_PAPER = Recipe(
    model={"hidden_channels": 64, "num_layers": 8, "heads": 8, "num_latents": 64}
)
"""What all trainings of the FLARE paper share; 2-D sets take two samples a step."""


def _flare(heads: int, num_latents: int) -> dict[str, int | float | str | bool]:
    return {**FLARE_PAPER.model, "heads": heads, "num_latents": num_latents}


FLARE_ELASTICITY = replace(FLARE_PAPER, model=_flare(heads=8, num_latents=64))
"""Elasticity: stress of a hyper-elastic block with a hole, 972 points."""

FLARE_DARCY = replace(FLARE_PAPER, model=_flare(heads=16, num_latents=256))
"""Darcy flow on a grid of 85 × 85.

The paper adds 0.1 times the relative errors of both derivatives of the field to the
loss; `training.SurrogateModule.loss` has no such term, so override it for that.
"""

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

FLARE_DRIVAERML_QUICK = replace(
    FLARE_DRIVAERML,
    epochs=40,
    num_points=1000,
    learning_rate=2e-3,
    model={
        "hidden_channels": 64,
        "num_layers": 4,
        "heads": 8,
        "num_latents": 64,
        "kv_layers": 0,
        "mlp_layers": 1,
    },
)
"""A recipe of ours that shows a car learned on a CPU within minutes.

Half the blocks, shallower MLPs and a quarter of the latents, twice the learning rate
and 1,000 random points a step; with 100 cars it takes 4,000 steps. Its errors are no
published figures.
"""
