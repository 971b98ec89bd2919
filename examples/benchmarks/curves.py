"""Plot the training errors of several runs over their epochs.

    python examples/benchmarks/curves.py RUN RUN ... --labels "AdamW" "Muon"

Each RUN is the folder of a training, which gives a line. Also prints the training error
after each tenth of its epochs.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt

from torch_geometric_flare.training import read_history, user_errors


@user_errors()
def main(argv=None):
    """Print the errors and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of trainings")
    parser.add_argument("--labels", nargs="*", help="names of the lines")
    parser.add_argument("--out", type=Path, default=Path("curves.png"))
    args = parser.parse_args(argv)
    labels = args.labels or [run.name for run in args.runs]
    if len(labels) != len(args.runs):
        raise ValueError(f"--labels has {len(labels)} names for {len(args.runs)} runs")
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for run, label in zip(args.runs, labels, strict=True):
        history = read_history(run)
        errors = history["train_relative_l2"]
        axes.plot([epoch + 1 for epoch in history["epoch"]], errors, label=label)
        tenth = max(1, len(errors) // 10)
        shown = " ".join(f"{error:.3f}" for error in errors[tenth - 1 :: tenth])
        print(f"{label}: {shown}")
    axes.set(xlabel="epoch", ylabel="relative error of the training samples")
    axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(args.out, dpi=150)
    print(args.out)


if __name__ == "__main__":
    main()
