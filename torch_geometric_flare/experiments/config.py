"""The options of a run, and those of a comparison of runs."""

import pkgutil
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

from torch_geometric_flare._arguments import check_integers
from torch_geometric_flare.experiments.benchmark import Benchmark
from torch_geometric_flare.experiments.options import Options
from torch_geometric_flare.experiments.splits import Selection
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.training import TrainerConfig

CONFIG = "config.yaml"
"""The file in the folder of a run or a comparison that holds its options."""

PROBLEMS = ("airfoil", "darcy", "drivaerml", "elasticity", "lpbf", "pipe")
"""Short names of the benchmark problems in this package."""


def find_benchmark(reference: str) -> Benchmark:
    """Return the benchmark of a name.

    Args:
        reference: One of `PROBLEMS`, or `package.module:NAME`.

    Raises:
        ValueError: If there is none.
    """
    path = reference
    if reference in PROBLEMS:
        path = f"torch_geometric_flare.experiments.{reference}:{reference.upper()}"
    try:
        benchmark = pkgutil.resolve_name(path)
    except (AttributeError, ImportError, ValueError) as error:
        raise ValueError(
            f"problem is {reference!r}, expected package.module:NAME or one of "
            f"{', '.join(PROBLEMS)}: {error}"
        ) from error
    if not isinstance(benchmark, Benchmark):
        raise ValueError(f"problem {reference!r} is a {type(benchmark).__name__}")
    return benchmark


@dataclass(frozen=True, kw_only=True)
class RunConfig(Options):
    """A run: a model to train on a problem, how long, from which data, and where.

    At most one of `epochs`, `seconds` and `steps` is given.

    Args:
        problem: Benchmark problem: airfoil, darcy, drivaerml, elasticity, lpbf, pipe,
            or your own as package.module:NAME. In Python, a `Benchmark` too.
        model: Name of the model's class, such as FLARE or Transolver.
        recipe: Name of the recipe: quick, or paper for the published training.
        selection: Which data to train and to test on.
        epochs: Epochs of the training instead of the recipe's.
        seconds: Time of the training instead of epochs: as many steps as this machine
            makes in it, by the time of ten steps that are made before.
        steps: Steps of the training instead of epochs.
        optimizer: Optimizer instead of the recipe's.
        init: How the network starts instead of the recipe's way; models without that
            choice keep their own.
        keep_best: Measure the weights of the lowest validation loss, not the last.
        patience: Validations without a lower loss that end the training. There are
            about ten in a training.
        device: Where to compute: auto, cpu, cuda, ... as Lightning names it.
        precision: Arithmetic of the training, as Lightning names it.
        seed: Seed of the initial weights and of the training.
        threads: Threads of the CPU to compute with; by default one per core. They
            change the order of sums, and so the last bits of results.
        logger: Where to log too, beside the CSV file.
        folder: Folder to write to; by default a new one in runs.
        progress: Show a progress bar, or lines where there is no terminal, and after
            the first steps how long the training takes.

    Raises:
        ValueError: If more than one budget is given, a number is not positive, or
            `keep_best` or `patience` is given without samples to validate on.
    """

    # A field is an option of the command line and a line of config.yaml. What `of` says
    # is set by `run_benchmark`: a field of Recipe or an argument of the model, unless
    # the value is None, or a field of TrainerConfig. The names are the same there.
    problem: str | Benchmark = field(metadata={"accepts": str})
    model: str = "FLARE"
    recipe: str = "quick"
    selection: Selection = Selection()
    epochs: int | None = field(default=None, metadata={"of": Recipe})
    seconds: float | None = None
    steps: int | None = None
    optimizer: Literal["adamw", "muon"] | None = field(
        default=None, metadata={"of": Recipe}
    )
    init: Literal["scaled", "paper"] | None = field(
        default=None, metadata={"of": "model"}
    )
    keep_best: bool = field(default=False, metadata={"of": TrainerConfig})
    patience: int | None = field(default=None, metadata={"of": TrainerConfig})
    device: str = "auto"
    precision: str = field(default="32-true", metadata={"of": TrainerConfig})
    seed: int = 0
    threads: int | None = None
    logger: Literal["tensorboard", "wandb", "mlflow"] | None = None
    folder: str | None = None
    progress: bool = field(default=True, metadata={"of": TrainerConfig})

    def __post_init__(self) -> None:
        if len(self.budget) > 1:
            given = (f"{name}={value}" for name, value in self.budget.items())
            raise ValueError(f"{' and '.join(given)}: give only one")
        if self.seconds is not None and not self.seconds > 0:
            raise ValueError(f"seconds must be positive, got {self.seconds}")
        for name in ("epochs", "steps", "patience", "threads"):
            if (value := getattr(self, name)) is not None:
                check_integers(1, **{name: value})
        if (self.keep_best or self.patience is not None) and not self.selection.num_val:
            raise ValueError(
                "keep_best and patience need samples to validate on: give --num-val "
                "(in Python, num_val of the selection)"
            )

    @property
    def budget(self) -> dict[str, int | float]:
        """The length of the training by its name; empty for the recipe's epochs."""
        names = ("epochs", "seconds", "steps")
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def values_of(self, owner: object) -> dict[str, Any]:
        """Return the values of the fields whose metadata have this `of`, by name.

        Args:
            owner: `Recipe`, `TrainerConfig` or `"model"`.
        """
        return {
            entry.name: getattr(self, entry.name)
            for entry in fields(self)
            if entry.metadata.get("of") == owner
        }

    @property
    def benchmark(self) -> Benchmark:
        """The benchmark of `problem`."""
        if isinstance(self.problem, Benchmark):
            return self.problem
        return find_benchmark(self.problem)


@dataclass(frozen=True, kw_only=True)
class ComparisonConfig(Options):
    """Several models on one problem, under the same budget, with several seeds each.

    Args:
        run: What all runs share. Their models and seeds are those of the comparison,
            and their folders lie in its folder.
        models: Names of the models' classes, in upper or lower case, separated by
            commas; all that have the recipe by default.
        seeds: Runs of each model, with the seeds 0, 1, ...

    Raises:
        ValueError: If `seeds` is not positive.
    """

    run: RunConfig
    models: tuple[str, ...] = field(
        default=(), metadata={"accepts": str | tuple[str, ...]}
    )
    seeds: int = 3

    no_option: ClassVar[tuple[str, ...]] = ("model", "seed", "progress")

    def __post_init__(self) -> None:
        check_integers(1, seeds=self.seeds)
        models: Any = self.models
        if isinstance(models, str):
            models = models.split(",") if models else ()
        object.__setattr__(self, "models", tuple(models))
