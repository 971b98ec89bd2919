"""The installed command `tgflare`."""

import argparse
import sys
from collections.abc import Callable, Sequence

import torch_geometric_flare
from torch_geometric_flare._arguments import OneLineParser
from torch_geometric_flare._extras import MissingExtra
from torch_geometric_flare._provenance import describe_machine, describe_versions
from torch_geometric_flare.functional.attention.choice import BACKENDS
from torch_geometric_flare.surrogates import load_surrogate

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `tgflare COMMAND ...`.

    Args:
        argv: The arguments; by default those of the process.

    Returns:
        The exit status: 2, with a one-line message, for a user error.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = OneLineParser(
        prog="tgflare",
        usage="tgflare COMMAND [OPTION ...]",
        description=torch_geometric_flare.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="commands:\n"
        + "\n".join(f"  {name:10}{text}" for name, (_, text) in _COMMANDS.items())
        + "\n\n`tgflare COMMAND --help` lists the options of a command.",
    )
    version = f"tgflare {torch_geometric_flare.__version__}"
    parser.add_argument("--version", action="version", version=version)
    parser.add_argument(
        "command",
        choices=_COMMANDS,
        metavar="COMMAND",
        help="one of the commands below",
    )
    command, _ = _COMMANDS[parser.parse_args(arguments[:1]).command]
    try:
        return command(arguments[1:])
    except (OSError, ValueError, MissingExtra) as error:
        print("error:", *str(error).split(), file=sys.stderr)
        return 2


# Commands import lazily: `info` needs only the core dependencies.
def _train(arguments: Sequence[str]) -> int:
    from torch_geometric_flare.experiments import run_command_line

    text = "Train a model on a benchmark problem, evaluate it and plot a sample."
    run_command_line(None, text, arguments, "tgflare train")
    return 0


def _compare(arguments: Sequence[str]) -> int:
    from torch_geometric_flare.experiments import run_comparison

    text = "Train several models with the same budget and write a report."
    run_comparison(text, arguments, "tgflare compare")
    return 0


def _ablate(arguments: Sequence[str]) -> int:
    from torch_geometric_flare.experiments import run_ablation

    text = "Train a model with all combinations of some options and write a report."
    run_ablation(text, arguments, "tgflare ablate")
    return 0


def _predict(arguments: Sequence[str]) -> int:
    from torch_geometric_flare.experiments import predict_command_line

    text = "Predict fields on your own meshes with a trained surrogate."
    return predict_command_line(text, arguments, "tgflare predict")


def _evaluate(arguments: Sequence[str]) -> int:
    from torch_geometric_flare.experiments.evaluation import evaluate_command_line

    evaluate_command_line(arguments, "tgflare evaluate")
    return 0


def _check(arguments: Sequence[str]) -> int:
    from torch_geometric_flare.experiments.check import check_command_line

    return check_command_line(arguments, "tgflare check")


def _spectrum(arguments: Sequence[str]) -> int:
    from torch_geometric_flare.experiments import spectrum_command_line

    text = "Plot how many latents each block of a checkpoint uses."
    spectrum_command_line(text, arguments, "tgflare spectrum")
    return 0


def _simulate(arguments: Sequence[str]) -> int:
    from torch_geometric_flare.experiments.evaluation import simulate_command_line

    simulate_command_line(arguments, "tgflare simulate")
    return 0


def _info(arguments: Sequence[str]) -> int:
    parser = OneLineParser(
        prog="tgflare info",
        description="Describe this machine, the installed versions and checkpoints.",
    )
    parser.add_argument("checkpoint", nargs="*", help="training checkpoint")
    checkpoints = parser.parse_args(arguments).checkpoint
    if not checkpoints:
        facts = {"torch_geometric_flare": torch_geometric_flare.__version__}
        facts |= describe_versions("llvmlite", "torch_scatter")
        facts["machine"] = describe_machine()
        facts["attention backends"] = ", ".join(backend.name for backend in BACKENDS)
        _print(facts)
    for path in checkpoints:
        surrogate = load_surrogate(path)
        model = surrogate.model
        size = sum(p.numel() << p.is_complex() for p in model.parameters())
        _print(
            {
                "checkpoint": path,
                "model": str(model),
                "parameters": f"{size:,}",
                "trained on": surrogate.training_data or "unknown",
                "predicts": ", ".join(map(str, surrogate.fields)) or "unnamed fields",
                "inputs": ", ".join(["coordinates", *map(str, surrogate.features)]),
                "conditions": ", ".join(map(str, surrogate.conditions)) or "none",
                "predicts at": f"{surrogate.location or 'point'}s",
            }
        )
    return 0


def _print(facts: dict[str, str]) -> None:
    for name, text in facts.items():
        print(f"{name:24} {text}")


_COMMANDS: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "train": (_train, "train a model on a benchmark problem"),
    "compare": (_compare, "train several models with the same budget, and report"),
    "ablate": (_ablate, "train one model with varied options, and report"),
    "predict": (_predict, "predict fields on your own meshes"),
    "evaluate": (_evaluate, "evaluate a checkpoint on a test split or on meshes"),
    "check": (_check, "check the meshes in a folder"),
    "spectrum": (_spectrum, "plot how many latents each block of a checkpoint uses"),
    "simulate": (_simulate, "simulate a data set"),
    "info": (_info, "describe this machine or a checkpoint"),
}

if __name__ == "__main__":
    sys.exit(main())
