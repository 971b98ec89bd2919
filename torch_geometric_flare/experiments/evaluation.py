"""The command lines for evaluating a checkpoint and for simulating a data set."""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare import mesh_io, training
from torch_geometric_flare._arguments import expand_path
from torch_geometric_flare.experiments.benchmark import Benchmark
from torch_geometric_flare.experiments.config import CONFIG, RunConfig, find_benchmark
from torch_geometric_flare.experiments.options import Config, Options, parse
from torch_geometric_flare.experiments.quantities import extra_metrics, log_results
from torch_geometric_flare.experiments.splits import Selection
from torch_geometric_flare.surrogates import Surrogate, load_surrogate
from torch_geometric_flare.training.errors import (
    area_weighted_errors,
    errors_per_field,
    zero_fields,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TestData(Options):
    """Test data of a checkpoint.

    Args:
        problem: Benchmark problem, as in training; by default problem and data of the
            run that the checkpoint belongs to.
        selection: The test data.
        device: Device to compute on: cpu, cuda.
        threads: Number of CPU threads; by default one per core.
    """

    problem: str | None = None
    selection: Selection = Selection()
    device: str = "cpu"
    threads: int | None = None

    @property
    def benchmark(self) -> Benchmark:
        """The benchmark of `problem`."""
        if self.problem is None:
            raise ValueError("problem is not given: give a benchmark problem or meshes")
        return find_benchmark(self.problem)


@dataclass(frozen=True, kw_only=True)
class SimulatedData(Options):
    """A simulated data set.

    Args:
        problem: Benchmark problem, as in training.
        selection: Which data.
    """

    problem: str
    selection: Selection = Selection()


@training.user_errors()
def evaluate_command_line(
    arguments: Sequence[str], prog: str | None = None
) -> dict[str, Any]:
    """Evaluate a checkpoint on the test split of a benchmark or on meshes.

    Args:
        arguments: The command line.
        prog: Name of the command.

    Returns:
        The errors by name.

    Raises:
        SystemExit: With status 2, after printing a user error as one line.
    """
    config, checkpoint, meshes = parse_checkpoint(
        TestData,
        "Measure a checkpoint on the test split of a benchmark problem, or on meshes "
        "that bring their true fields.",
        arguments,
        prog,
    )
    training.set_threads(config.threads)
    surrogate = load_surrogate(checkpoint, device=config.device)
    if meshes:
        errors = _evaluate_meshes(surrogate, meshes)
    else:
        errors = _evaluate_split(surrogate, config)
    log_results(errors)
    return errors


@training.user_errors()
def simulate_command_line(arguments: Sequence[str], prog: str | None = None) -> None:
    """Simulate the data set of a benchmark and store it for training.

    Args:
        arguments: The command line.
        prog: Name of the command.

    Raises:
        SystemExit: With status 2, after printing a user error as one line.
    """
    parser = SimulatedData.parser(
        "Simulate the data set of a benchmark problem, which `train` then reads.",
        prog=prog,
        hidden=("data", "fields"),
    )
    config = SimulatedData.from_options(parse(parser, arguments))
    benchmark, selection = find_benchmark(config.problem), config.selection
    if selection.data != "simulated":
        raise ValueError(f"data is {selection.data!r}, but this command simulates")
    splits = benchmark.load(selection)
    parts = {"train": splits.train, "validate": splits.val, "test": splits.test}
    counts = [f"{len(part)} to {name} on" for name, part in parts.items() if part]
    log.info(
        "simulated %ss: %s, of %s points, in %s",
        benchmark.sample,
        ", ".join(counts),
        f"{splits.test[0].num_nodes:,}",
        selection.root,
    )


def parse_checkpoint(
    kind: type[Config],
    description: str,
    arguments: Sequence[str] | None,
    prog: str | None,
) -> tuple[Config, Path, list[str]]:
    """Parse the command line of a command that analyzes a checkpoint.

    Without a problem and without meshes, the data are those of the run that the
    checkpoint belongs to.

    Args:
        kind: Options class, which includes those of `TestData`.
        description: First line of the help text.
        arguments: The command line; that of the process by default.
        prog: Name of the command; that of the script by default.

    Returns:
        The options, the checkpoint and the meshes.

    Raises:
        ValueError: If an option or its value is wrong.
    """
    command_line = list(sys.argv[1:] if arguments is None else arguments)

    def read(defaults: dict[str, Any]) -> dict[str, Any]:
        parser = kind.parser(description, prog=prog, defaults=defaults)
        parser.add_argument("checkpoint", help="checkpoint of a training")
        parser.add_argument(
            "meshes", nargs="*", help="meshes to use instead of test data"
        )
        return parse(parser, command_line)

    values = read({})
    file = expand_path(values["checkpoint"]).with_name(CONFIG)
    if file.exists() and values["problem"] is None and not values["meshes"]:
        run = RunConfig.load(file).to_options()
        names = {"problem", *(entry.name for entry in fields(Selection))}
        values = read({name: run[name] for name in names})
    checkpoint, meshes = values.pop("checkpoint"), values.pop("meshes")
    return kind.from_options(values), expand_path(checkpoint), meshes


def _evaluate_split(surrogate: Surrogate, config: TestData) -> dict[str, Any]:
    """Return the errors that `metrics.json` of a run has."""
    benchmark = config.benchmark
    splits = benchmark.load(config.selection)
    if splits.fields != surrogate.fields:
        raise ValueError(
            f"the checkpoint predicts {surrogate.fields}, but the data of "
            f"{benchmark.name} have {splits.fields}: choose them by --fields"
        )
    train, test = splits.train, splits.test
    comparison = training.compare_with_baselines(surrogate, train, test)
    absolute = comparison.absolute_errors()
    return {
        "data": config.selection.data,
        "num_test": len(test),
        **comparison.mean_errors(),
        **({"absolute_errors": absolute} if absolute else {}),
        **extra_metrics(benchmark, train, test, comparison.predictions, splits.fields),
    }


def _evaluate_meshes(surrogate: Surrogate, meshes: Sequence[str]) -> dict[str, Any]:
    """Return the mean over the meshes of the relative error of each field.

    Places without a finite truth are left out, and so are meshes without another.
    """
    location = surrogate.location or "point"
    scale = surrogate.target_normalizer.scale.cpu()
    errors: dict[str, list[float]] = {}
    absolute: dict[str, Any] = {}
    for path in meshes:
        mesh = surrogate.predict_mesh(path)
        columns: dict[str, list[Tensor]] = {"y": [], "prediction": []}
        for field in surrogate.fields:
            if f"{field.name}_true" not in mesh.array_names:
                raise ValueError(f"{path} has no array {field.name!r} to measure on")
            for kind, name in (("prediction", field.name), ("y", f"{field.name}_true")):
                values = torch.as_tensor(mesh.get_array(name, preference=location))
                columns[kind].append(values.reshape(len(values), -1))
        data = Data(**{k: torch.cat(v, dim=1) for k, v in columns.items()})
        data.weight = mesh_io.mesh_weights(mesh, cells=location == "cell")
        zero = zero_fields(data.y, data, surrogate.fields)
        field_errors = errors_per_field(
            data.prediction, data, surrogate.fields, scale, skip_gaps=True
        )
        for name, error in field_errors.items():
            errors.setdefault(f"relative_l2_{name}", []).append(error.item())
            kind = "relative L2 error"
            if name in zero:
                absolute.setdefault(name, {})[str(path)] = error.item()
                kind = "zero everywhere, absolute error in units of the scale"
            log.info("%s: %s, %s %.4g", path, name, kind, error)
        weighted = area_weighted_errors(data.prediction, data, surrogate.fields)
        for name, error in weighted.items():
            key = f"area_weighted_relative_l2_{name}"
            errors.setdefault(key, []).append(error.item())
    # NaN for a mesh without any finite truth, which has no error.
    means = {n: torch.tensor(values).nanmean().item() for n, values in errors.items()}
    extra = {"absolute_errors": absolute} if absolute else {}
    return {"num_meshes": len(meshes), **means, **extra}
