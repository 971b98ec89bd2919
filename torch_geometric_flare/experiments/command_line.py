"""The command lines of runs, comparisons and ablations."""

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from jsonargparse import ArgumentParser

from torch_geometric_flare import training
from torch_geometric_flare.experiments.ablation import ablate
from torch_geometric_flare.experiments.benchmark import Benchmark
from torch_geometric_flare.experiments.build import choose_recipe
from torch_geometric_flare.experiments.compare import choose_models, compare_models
from torch_geometric_flare.experiments.config import (
    CONFIG,
    AblationConfig,
    ComparisonConfig,
    RunConfig,
    write_config,
)
from torch_geometric_flare.experiments.options import parse, parse_with_file
from torch_geometric_flare.experiments.quantities import (
    describe_quantities,
    log_results,
)
from torch_geometric_flare.experiments.run import (
    published_figures,
    run_benchmark,
    with_folder,
)
from torch_geometric_flare.training.run_folder import drop_unused

log = logging.getLogger(__name__)

C = TypeVar("C", RunConfig, ComparisonConfig, AblationConfig)


@training.user_errors()
def run_command_line(
    benchmark: Benchmark | None,
    description: str,
    arguments: Sequence[str] | None = None,
    prog: str | None = None,
) -> None:
    """Run a benchmark from the command line, in a new folder of `runs`.

    Args:
        benchmark: The problem; `None` for an option `--problem`.
        description: Docstring of the script; `--help` shows its first line.
        arguments: The command line; that of the process by default.
        prog: Name of the command; that of the script by default.

    Raises:
        SystemExit: With status 2, after printing a user error as one line.
    """
    command_line = list(sys.argv[1:] if arguments is None else arguments)
    values, resume = _read(run_parser(benchmark, description, prog), command_line)
    if benchmark is not None:
        if values["problem"] != benchmark.name:
            raise ValueError(
                f"problem is {values['problem']!r}, but this script is for "
                f"{benchmark.name}: take the script of that problem"
            )
        values["problem"] = benchmark
    config = RunConfig.from_options(values)
    config.benchmark.recipe(config.model, config.recipe)  # before a folder is made
    with _in_folder(config, "", prog, command_line, resume) as config:
        results = run_benchmark(config, resume=resume)
    folder = Path(str(config.folder))
    quantities = describe_quantities(results)
    prefixes = tuple(f"{name}_" for name in quantities)
    log_results({k: v for k, v in results.items() if not k.startswith(prefixes)})
    for line in quantities.values():
        log.info(line)
    for figure in published_figures(config, results):
        name = f"published for {figure.model}"
        log.info(f"{name:42} {figure.relative_l2:.4g} ({figure.source})")
    log.info(
        "%s: %s", folder, ", ".join(sorted(path.name for path in folder.iterdir()))
    )


@training.user_errors()
def run_comparison(
    description: str, arguments: Sequence[str] | None = None, prog: str | None = None
) -> None:
    """Compare models from the command line, in a new folder of `runs`.

    Args:
        description: Docstring of the script; `--help` shows its first line.
        arguments: The command line; that of the process by default.
        prog: Name of the command; that of the script by default.

    Raises:
        SystemExit: With status 2, after printing a user error as one line.
    """
    command_line = list(sys.argv[1:] if arguments is None else arguments)
    values, resume = _read(comparison_parser(description, prog), command_line)
    config = ComparisonConfig.from_options(values)
    # Before a folder is made.
    choose_models(config.run.benchmark, config.models, config.run.recipe)
    with _in_folder(config, "compare-", prog, command_line, resume) as config:
        compare_models(config)
    _show_report(config.run)


@training.user_errors()
def run_ablation(
    description: str, arguments: Sequence[str] | None = None, prog: str | None = None
) -> None:
    """Vary options of a model from the command line, in a new folder of `runs`.

    Args:
        description: Docstring of the script; `--help` shows its first line.
        arguments: The command line; that of the process by default.
        prog: Name of the command; that of the script by default.

    Raises:
        SystemExit: With status 2, after printing a user error as one line.
    """
    command_line = _joined(
        "--over", list(sys.argv[1:] if arguments is None else arguments)
    )
    parser = AblationConfig.parser(description.partition("\n")[0], prog=prog)
    _add_resume(parser)
    values, resume = _read(parser, command_line)
    config = AblationConfig.from_options(values)
    for each in config.runs.values():  # before a folder is made
        choose_recipe(each)
    with _in_folder(config, "ablate-", prog, command_line, resume) as config:
        ablate(config)
    _show_report(config.run, "ablation.csv", "ablation.png")


@contextmanager
def _in_folder(
    config: C, prefix: str, prog: str | None, command_line: Sequence[str], resume: bool
) -> Iterator[C]:
    """Yield the options with a folder, which holds them, and log how to resume.

    After an error of a new run, the folder is removed if it has no results. It is kept
    after an interruption, because the run can be resumed.
    """
    run = with_folder(config if isinstance(config, RunConfig) else config.run, prefix)
    started: Any = run if isinstance(config, RunConfig) else replace(config, run=run)
    folder = Path(str(run.folder))
    options: Sequence[str] = ()
    if resume or any((folder / name).exists() for name in (CONFIG, "last.ckpt")):
        options = _without_resume(command_line)  # not yet accepted, so not written
    else:
        write_config(started, folder)
    command: list[str] = (
        prog.split() if prog else ["python", os.path.abspath(sys.argv[0])]
    )
    log.info("%s; if the run is killed, resume it by", folder)
    log.info("  %s", shlex.join([*command, *options, f"--resume={folder}"]))
    try:
        yield started
    except Exception:
        if not resume:
            with suppress(OSError):
                drop_unused(folder)
        raise


def _show_report(run: RunConfig, *more: str) -> None:
    """Log the report of several runs and the names of its files."""
    folder = Path(str(run.folder))
    log.info((folder / "report.md").read_text(encoding="utf-8"))
    names = ("report.html", "report.md", *more, "results.csv", "results.json")
    log.info("%s: %s, cost.png", folder, ", ".join(names))


def run_parser(
    benchmark: Benchmark | None, description: str, prog: str | None = None
) -> ArgumentParser:
    """Return the parser of a run's command line.

    Args:
        benchmark: The problem; `None` for an option `--problem`.
        description: Docstring of the script.
        prog: Name of the command; that of the script by default.
    """
    first_line = description.partition("\n")[0]
    # Validation gives a curve to look at, which is less useful in Python.
    defaults: dict[str, Any] = {"num_val": None}
    if benchmark is None:
        parser = RunConfig.parser(first_line, prog=prog, defaults=defaults)
    else:
        defaults["problem"] = benchmark.name
        parser = RunConfig.parser(
            first_line, prog=prog, defaults=defaults, hidden=("problem",)
        )
        parser.epilog = (
            f"Models of {benchmark.name}: {', '.join(benchmark.models)}. Recipes: "
            f"{', '.join(benchmark.recipe_names)}."
        )
    _add_resume(parser)
    return parser


def comparison_parser(description: str, prog: str | None = None) -> ArgumentParser:
    """Return the parser of a comparison's command line.

    Args:
        description: Docstring of the script.
        prog: Name of the command; that of the script by default.
    """
    parser = ComparisonConfig.parser(
        description.partition("\n")[0], prog=prog, aliases={"problem": "dataset"}
    )
    _add_resume(parser)
    return parser


def _add_resume(parser: Any) -> None:
    parser.add_argument(
        "--resume",
        metavar="RUN",
        help="resume the killed run in this folder with its options",
    )


def _joined(option: str, arguments: Sequence[str]) -> list[str]:
    """Merge repeated occurrences of an option, with spaces between the values."""
    rest, values = [], []
    remaining = iter(arguments)
    for argument in remaining:
        name, equals, value = argument.partition("=")
        if name == option:
            values.append(value if equals else next(remaining, ""))
        else:
            rest.append(argument)
    return [*rest, f"{option}={' '.join(values)}"] if values else rest


def _read(
    parser: ArgumentParser, command_line: Sequence[str]
) -> tuple[dict[str, Any], bool]:
    """Return the options and whether a run is resumed.

    A resumed run takes its options from its folder, except those on the command line.
    """
    resume = _resume_parser().parse_known_args(command_line)[0].resume
    if resume is None:
        values = parse(parser, command_line)
    else:
        folder = training.run_folder("runs", resume)
        file = folder / CONFIG
        if file.exists():
            values = parse_with_file(parser, file, command_line)
        else:
            values = parse(parser, command_line)
        values["folder"] = str(folder)
    del values["resume"]
    return values, resume is not None


def _resume_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    _add_resume(parser)
    return parser


def _without_resume(command_line: Sequence[str]) -> list[str]:
    return _resume_parser().parse_known_args(command_line)[1]
