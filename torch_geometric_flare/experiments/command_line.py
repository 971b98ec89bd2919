"""The command line that the examples of all benchmarks share."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from torch_geometric_flare import training
from torch_geometric_flare.experiments.benchmark import Benchmark, Selection
from torch_geometric_flare.experiments.quantities import describe_quantities
from torch_geometric_flare.experiments.run import published_figures, run_benchmark
from torch_geometric_flare.recipes.recipe import OPTIMIZERS
from torch_geometric_flare.training.run_folder import (
    drop_unused,
    note_options,
    read_options,
)

# Enough for a curve, and quick: five hundredths of the default cars.
_NUM_VAL = 5


@training.user_errors()
def run_command_line(
    benchmark: Benchmark, description: str, arguments: Sequence[str] | None = None
) -> None:
    """Run a benchmark as the command line says, in a new folder of `runs`.

    Args:
        benchmark: The problem.
        description: Docstring of the script; `--help` shows its first line.
        arguments: The command line; that of the process by default.

    Raises:
        SystemExit: With exit code 2, after one sentence, on what the user can mend.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = make_parser(benchmark, description)
    args = parser.parse_args(given)
    if args.resume:
        # The options of the run, which those of this command line take precedence over.
        args = parser.parse_args([*read_options(args.resume), *given])
    selection = chosen_data(args)
    benchmark.recipe(args.model, args.recipe)  # before a folder is made
    prefix = Path("runs", f"{benchmark.name}-{args.data}")
    folder = training.run_folder(prefix, args.resume)
    again = [] if args.resume else [f"--resume={folder}"]
    if not args.resume:
        note_options(folder, given)
    print(f"{folder}, to be carried on, if it is killed, by")
    print(" ", shlex.join(["python", sys.argv[0], *given, *again]))
    try:
        results = run_benchmark(
            benchmark,
            args.model,
            args.recipe,
            folder,
            selection=selection,
            epochs=args.epochs,
            optimizer=args.optimizer,
            init=args.init,
            resume=bool(args.resume),
            keep_best=args.keep_best,
            patience=args.patience,
            device=args.device,
            precision=args.precision,
            seed=args.seed,
        )
    except BaseException:
        with suppress(OSError):  # keep it, unless there is nothing in it
            drop_unused(folder)
        raise
    quantities = describe_quantities(results)
    told = tuple(f"{name}_" for name in quantities)
    for name, value in results.items():
        if not name.startswith(told):
            print(f"{name:42}", f"{value:.4g}" if isinstance(value, float) else value)
    for line in quantities.values():
        print(line)
    for figure in published_figures(
        benchmark,
        args.recipe,
        selection,
        args.epochs,
        results,
        optimizer=args.optimizer,
        init=args.init,
    ):
        name = f"published for {figure.model}"
        print(f"{name:42} {figure.relative_l2:.4g} ({figure.source})")
    print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")


def make_parser(benchmark: Benchmark, description: str) -> argparse.ArgumentParser:
    """Return the parser of a benchmark's command line.

    Args:
        benchmark: Whose models and recipes are the choices.
        description: Docstring of the script.
    """
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    add_data_options(parser, benchmark.sample)
    add_training_options(parser, benchmark.recipe_names)
    parser.add_argument("--model", choices=benchmark.models, default="FLARE")
    parser.add_argument("--seed", type=int, default=0)
    add_validation_options(parser, benchmark.sample)
    return parser


def add_validation_options(parser: argparse.ArgumentParser, sample: str) -> None:
    """Add the options of validation; `chosen_data` reads the first.

    Args:
        parser: The parser.
        sample: What one sample is, such as `"car"`.
    """
    add = parser.add_argument
    default = f"{_NUM_VAL} simulated ones, or none of the official"
    add("--num-val", type=int, help=f"{sample}s to validate on; {default}")
    add(
        "--keep-best",
        action="store_true",
        help="measure the best weights, not the last",
    )
    add("--patience", type=int, help="validations without progress that end a training")


def add_data_options(parser: argparse.ArgumentParser, sample: str) -> None:
    """Add the options that choose data, which `chosen_data` reads.

    Args:
        parser: The parser.
        sample: What one sample is, such as `"car"`.
    """
    add = parser.add_argument
    add("--data", choices=["simulated", "official"], default="simulated")
    add("--root", default="data", help="folder of the data sets")
    add("--num-points", help=f"points of each {sample}, such as 10k")
    add("--num-train", type=int, help=f"{sample}s to train on")
    add("--num-test", type=int, help=f"{sample}s to test on")
    add("--fields", help="targets, separated by commas, where there are several")


def add_training_options(
    parser: argparse.ArgumentParser, recipes: Sequence[str] = ("quick", "paper")
) -> None:
    """Add the options of a training.

    Args:
        parser: The parser.
        recipes: Names of the recipes.
    """
    add = parser.add_argument
    add("--recipe", choices=recipes, default="quick")
    add("--epochs", type=int, help="instead of the recipe's")
    add("--optimizer", choices=OPTIMIZERS, help="instead of the recipe's")
    add("--init", choices=["scaled", "paper"], help="start instead of the recipe's")
    add(
        "--resume",
        metavar="RUN",
        help="carry on in this folder of a killed run, with its options",
    )
    add("--device", default="auto", help="cpu, cuda, ... as Lightning names it")
    add("--precision", default="32-true", help="as Lightning names it")
    training.add_threads_option(parser)


def chosen_data(args: argparse.Namespace) -> Selection:
    """Return the selection that the options of `add_data_options` make.

    Without `--num-val`, simulated samples are made to validate on where the command
    line knows that option.

    Args:
        args: The parsed command line.

    Raises:
        ValueError: If an option has no such value.
    """
    num_val = getattr(args, "num_val", 0)
    if num_val is None:
        num_val = _NUM_VAL if args.data == "simulated" else 0
    return Selection(
        data=args.data,
        root=args.root,
        num_points=args.num_points,
        num_train=args.num_train,
        num_test=args.num_test,
        num_val=num_val,
        fields=None if args.fields is None else tuple(args.fields.split(",")),
    )
