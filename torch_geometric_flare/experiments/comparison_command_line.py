"""The command line of a comparison."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from torch_geometric_flare import training
from torch_geometric_flare.experiments.command_line import (
    add_data_options,
    add_training_options,
    chosen_data,
)
from torch_geometric_flare.experiments.compare import choose_models, compare_models
from torch_geometric_flare.experiments.contest import Contest
from torch_geometric_flare.experiments.own_process import find_benchmark

DATASETS = {
    name: f"torch_geometric_flare.experiments.{name}:{name.upper()}"
    for name in ("airfoil", "darcy", "drivaerml", "elasticity", "lpbf", "pipe")
}
"""Benchmarks of this package by their short names."""


@training.user_errors()
def run_comparison(description: str, arguments: Sequence[str] | None = None) -> None:
    """Compare models as the command line says, in a new folder of `runs`.

    Args:
        description: Docstring of the script; `--help` shows its first line.
        arguments: The command line; that of the process by default.

    Raises:
        SystemExit: With exit code 2, after one sentence, on what the user can mend.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    args = make_comparison_parser(description).parse_args(given)
    contest = Contest(
        benchmark=DATASETS.get(args.dataset, args.dataset),
        recipe=args.recipe,
        selection=chosen_data(args),
        epochs=args.epochs,
        seconds=args.seconds,
        optimizer=args.optimizer,
        init=args.init,
        device=args.device,
        precision=args.precision,
    )
    benchmark = find_benchmark(contest.benchmark)
    models = args.models.split(",") if args.models else []
    choose_models(benchmark, models, args.recipe)  # before a folder is made
    if args.resume is None:
        prefix = Path("runs", f"compare-{benchmark.name}-{args.data}")
        folder = training.run_folder(prefix)
        given.append(f"--resume={folder}")
    else:
        folder = Path(args.resume)
        if not folder.is_dir():
            raise FileNotFoundError(f"--resume={folder} is no folder: look in runs")
    print(f"{folder}, to be carried on, if it is killed, by")
    print(" ", shlex.join(["python", sys.argv[0], *given]))
    compare_models(contest, models, folder, seeds=args.seeds)
    print((folder / "report.md").read_text(encoding="utf-8"))
    print(f"{folder}: report.html, report.md, results.csv, results.json, cost.png")


def make_comparison_parser(description: str) -> argparse.ArgumentParser:
    """Return the parser of a comparison's command line.

    Args:
        description: Docstring of the script.
    """
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    add = parser.add_argument
    add(
        "--dataset",
        required=True,
        help=f"{', '.join(DATASETS)}, or your own Benchmark as package.module:NAME",
    )
    add("--models", help="classes, separated by commas; all by default")
    add("--seeds", type=int, default=3, help="runs of each model")
    add("--seconds", type=float, help="time of each training, instead of epochs")
    add_data_options(parser, "sample")
    add_training_options(parser)
    return parser
