"""Options of runs, comparisons and ablations."""

import itertools
import os
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch_geometric_flare._arguments import as_path, check_integers
from torch_geometric_flare.experiments.benchmark import Benchmark
from torch_geometric_flare.experiments.options import Options
from torch_geometric_flare.experiments.splits import Selection
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.recipes.changes import read_changes, read_value
from torch_geometric_flare.recipes.recipe import Value
from torch_geometric_flare.training import TrainerConfig
from torch_geometric_flare.training.run_folder import is_first_process

CONFIG = "config.yaml"
"""Name of the file with the options in the folder of a run or comparison."""

PROBLEMS = ("airfoil", "darcy", "drivaerml", "elasticity", "lpbf", "pipe")
"""Short names of the benchmark problems in this package."""


def find_benchmark(reference: str) -> Benchmark:
    """Return a benchmark by name.

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
        raise ValueError(
            f"problem {reference!r} is a {type(benchmark).__name__}, expected a "
            "Benchmark"
        )
    return benchmark


@dataclass(frozen=True, kw_only=True)
class RunConfig(Options):
    """Options of a run: the model, the problem, the data, the budget and the machine.

    At most one of `epochs`, `seconds` and `steps` may be given.

    Args:
        problem: Benchmark problem: airfoil, darcy, drivaerml, elasticity, lpbf, pipe,
            or your own as package.module:NAME. In Python, also a `Benchmark`.
        model: Class name of the model, such as FLARE or Transolver.
        recipe: Name of the recipe: quick, or paper for the published hyperparameters.
        selection: The training and test data.
        epochs: Number of training epochs; by default that of the recipe.
        seconds: Training time instead of epochs. The number of steps that fit into it
            is estimated from ten trial steps on this machine.
        steps: Number of training steps instead of epochs.
        optimizer: Optimizer; by default that of the recipe.
        init: Weight initialization; by default that of the recipe. Ignored by models
            without this option.
        changes: Overrides of fields of the recipe or arguments of its model, as
            NAME=VALUE,NAME=VALUE, such as num_latents=16,learning_rate=2e-3. In Python,
            a mapping.
        keep_best: Evaluate the weights with the lowest validation loss instead of the
            last.
        patience: Stop after this many validations without a lower loss. There are about
            ten validations in a training.
        device: Accelerator, as in Lightning: auto, cpu, cuda, ...
        precision: Precision of the training, as in Lightning.
        seed: Random seed of the initial weights and of the training.
        threads: Number of CPU threads; by default one per core. It affects the order of
            summation and so the last bits of results.
        logger: Logger to use in addition to the CSV file.
        folder: Folder to write to, `~` being the home folder; by default a new one in
            runs.
        progress: Show a progress bar, or lines if there is no terminal, and an estimate
            of the training time after the first steps.

    Raises:
        ValueError: If more than one budget is given, a number is not positive, or
            `keep_best` or `patience` is given without validation samples.
    """

    # A field is an option of the command line and a line of config.yaml. The metadata
    # `of` tells `run_benchmark` what the value overrides: a field of Recipe or an
    # argument of the model, unless it is None, or a field of TrainerConfig, each of
    # the same name.
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
    changes: Mapping[str, Value] | None = field(
        default=None, metadata={"accepts": str | dict[str, Any] | None}
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
        changes: Any = self.changes
        if isinstance(changes, str):
            object.__setattr__(self, "changes", read_changes(changes))
        if self.folder is not None:
            object.__setattr__(self, "folder", os.path.expanduser(self.folder))
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
                "keep_best and patience need validation samples: give --num-val (in "
                "Python, Selection(num_val=...))"
            )

    @property
    def budget(self) -> dict[str, int | float]:
        """The given budget by option name; empty for the epochs of the recipe."""
        names = ("epochs", "seconds", "steps")
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def values_of(self, owner: object) -> dict[str, Any]:
        """Return the values of the fields with this `of` in their metadata, by name.

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
    """Options of a comparison: several models on one problem under the same budget.

    Args:
        run: Options shared by all runs. The comparison sets their models and seeds, and
            their folders are subfolders of its folder.
        models: Class names of the models, case-insensitive, separated by commas; by
            default all that have the recipe.
        seeds: Number of runs per model, with the seeds 0, 1, ...

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


def read_axis(text: str) -> tuple[str, list[Value]]:
    """Return the name of an option and its values.

    Args:
        text: `NAME=VALUE,VALUE,...`.

    Raises:
        ValueError: If it does not have this form.
    """
    name, _, values = text.partition("=")
    listed = values.split(",")
    if not name or "" in listed:
        raise ValueError(f"over is {text!r}, expected NAME=VALUE,VALUE")
    return name, list(dict.fromkeys(read_value(value) for value in listed))


@dataclass(frozen=True, kw_only=True)
class AblationConfig(Options):
    """Options of an ablation: one model with all combinations of some option values.

    Args:
        run: Options shared by all runs. The ablation sets their seeds, and their
            folders are subfolders of its folder.
        over: One or two options of the recipe or the model with their values, as
            NAME=VALUE,VALUE,...; repeat it for the second.
        seeds: Number of runs per combination, with the seeds 0, 1, ...

    Raises:
        ValueError: If `over` does not have this form, repeats an option, or has no
            option or more than two, or if `seeds` is not positive.
    """

    run: RunConfig
    over: tuple[str, ...] = field(metadata={"accepts": str | tuple[str, ...]})
    seeds: int = 3

    no_option: ClassVar[tuple[str, ...]] = ("seed", "progress")

    def __post_init__(self) -> None:
        check_integers(1, seeds=self.seeds)
        over: Any = self.over
        if isinstance(over, str):
            over = over.split()
        object.__setattr__(self, "over", tuple(over))
        if not 1 <= len(self.axes) <= 2 or len(self.axes) != len(self.over):
            raise ValueError(
                f"over is {' '.join(self.over)!r}, expected one or two different "
                "options, each as NAME=VALUE,VALUE"
            )

    @property
    def axes(self) -> dict[str, list[Value]]:
        """The values of each option."""
        return dict(map(read_axis, self.over))

    @property
    def cells(self) -> dict[str, dict[str, Value]]:
        """The changes of each combination, by a name for its folder."""
        cells = {}
        for values in itertools.product(*self.axes.values()):
            changes = dict(zip(self.axes, values, strict=True))
            name = ",".join(f"{key}={value}" for key, value in changes.items())
            cells[name] = changes
        return cells

    @property
    def runs(self) -> dict[str, RunConfig]:
        """The run of each combination, by its name."""
        before = self.run.changes or {}
        return {
            name: replace(self.run, changes={**before, **changes})
            for name, changes in self.cells.items()
        }


def write_config(
    config: RunConfig | ComparisonConfig | AblationConfig, folder: Path
) -> None:
    """Write the options of a run to `config.yaml` in its folder.

    The file holds the absolute path of `root`, so that the run can be resumed from any
    working directory, but not `folder`, so that a run from this file gets a new one. In
    distributed training, only the first process writes it.

    Args:
        config: The options.
        folder: The folder; created if it does not exist.
    """
    if not is_first_process():
        return
    run = config if isinstance(config, RunConfig) else config.run
    selection = replace(run.selection, root=str(as_path(run.selection.root)))
    run = replace(run, folder=None, selection=selection)
    folder.mkdir(parents=True, exist_ok=True)
    written = run if isinstance(config, RunConfig) else replace(config, run=run)
    written.save(folder / CONFIG)
