"""What is the same for all models of a comparison."""

from dataclasses import asdict, dataclass
from typing import Any

from torch_geometric_flare.experiments.benchmark import Selection


@dataclass(frozen=True, kw_only=True)
class Contest:
    """What is the same for all models of a comparison.

    Args:
        benchmark: Where the benchmark is, as `package.module:NAME`; a benchmark holds
            functions, which do not travel to another process.
        recipe: Name of the recipes.
        selection: Which data; simulated ones by default.
        epochs: Epochs of each training instead of the recipe's.
        seconds: Time of each training instead of epochs, see `run_benchmark`.
        optimizer: Optimizer of all trainings instead of the recipes'.
        init: How all networks start instead of the recipes' way, see
            `nn.initialization`.
        device: Where to compute, as Lightning names it.
        precision: Arithmetic of the training, as Lightning names it.

    Raises:
        ValueError: If both `epochs` and `seconds` are given, or one is not positive.
    """

    benchmark: str
    recipe: str = "quick"
    selection: Selection = Selection()
    epochs: int | None = None
    seconds: float | None = None
    optimizer: str | None = None
    init: str | None = None
    device: str = "auto"
    precision: str = "32-true"

    def __post_init__(self) -> None:
        if self.epochs is not None and self.seconds is not None:
            raise ValueError(
                f"epochs={self.epochs} and seconds={self.seconds}: give only one"
            )
        for name in ("epochs", "seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")

    def to_dict(self) -> dict[str, Any]:
        """Return all as JSON can hold it, but the folder of the data."""
        values = asdict(self)
        selection = values["selection"]
        del selection["root"]
        if selection["fields"] is not None:
            selection["fields"] = list(selection["fields"])
        return values
