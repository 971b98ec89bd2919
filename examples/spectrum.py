"""Draw the spectra of a trained surrogate: how many latents each block uses.

    python examples/drivaerml.py                                # train one, minutes
    python examples/spectrum.py runs/drivaerml-.../last.ckpt --dataset drivaerml

Draws the eigenvalues of the operator of every block and head on a test sample, beside
those of the same network before its training, writes `spectrum.png` and `spectrum.json`
beside the checkpoint, and says how many latents hold 95 % of the sum of eigenvalues.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:  # threads that wait let others run
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import argparse
import copy
import json
from pathlib import Path

import torch
from matplotlib.figure import Figure

from torch_geometric_flare.analysis import effective_rank, spectra, stable_rank
from torch_geometric_flare.experiments import PROBLEMS, Selection, find_benchmark
from torch_geometric_flare.surrogates import load_surrogate
from torch_geometric_flare.training import add_threads_option, user_errors

SHARE = 0.95


def latents_for(values, share=SHARE):
    """How many eigenvalues hold a share of their sum."""
    sums = values.clamp_min(0).cumsum(-1)
    return (sums < share * sums[..., -1:]).sum(-1) + 1


def draw(before, after, title):
    """One panel for each block, one line for each head."""
    figure = Figure(figsize=(3.2 * len(after), 3.6), layout="constrained")
    axes = figure.subplots(1, len(after), sharey=True, squeeze=False)[0]
    for number, (axis, first, last) in enumerate(
        zip(axes, before, after, strict=True), start=1
    ):
        ranks = range(1, 1 + last.size(-1))
        for head in range(last.size(1)):
            axis.semilogy(ranks, first[0, head].clamp_min(1e-16), color="0.8", lw=1)
        for head in range(last.size(1)):
            axis.semilogy(ranks, last[0, head].clamp_min(1e-16), lw=1.2)
        # What single precision cannot tell from zero.
        axis.axhline(torch.finfo(torch.float32).eps, color="0.5", ls=":", lw=1)
        axis.set_title(
            f"block {number}, {latents_for(last).double().mean():.0f} latents"
        )
        axis.set_xlabel("eigenvalue")
    axes[0].set_ylabel("size")
    figure.suptitle(f"{title}: eigenvalues of each head (grey: before the training)")
    return figure


@user_errors()
def main(argv=None):
    """Compute, draw, say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("checkpoint", type=Path)
    add("--dataset", choices=PROBLEMS, default="drivaerml")
    add("--data", choices=("simulated", "official"), default="simulated")
    add("--root", default="data", help="folder of the data sets")
    add("--sample", type=int, default=0, help="place in the test split")
    add("--chunk-size", type=int, help="points to compute at a time")
    add_threads_option(parser)
    args = parser.parse_args(argv)
    surrogate = load_surrogate(args.checkpoint)
    selection = Selection(data=args.data, root=args.root)
    benchmark = find_benchmark(args.dataset)
    sample = benchmark.load(selection).test[args.sample]
    x = surrogate.encode_input(sample)
    untrained = copy.deepcopy(surrogate.model)
    torch.manual_seed(0)
    untrained.reset_parameters()
    before, after = (
        spectra(model, x, chunk_size=args.chunk_size)
        for model in (untrained, surrogate.model)
    )
    folder = args.checkpoint.parent
    kind = f"{args.data} {benchmark.sample}"
    draw(before, after, kind).savefig(folder / "spectrum.png", dpi=130)
    results = []
    for first, values in zip(before, after, strict=True):
        used = latents_for(values)[0]
        results.append(
            {
                "latents_for_95_percent": used.tolist(),
                "stable_rank": stable_rank(values)[0].tolist(),
                "stable_rank_before": stable_rank(first)[0].tolist(),
                "effective_rank": effective_rank(values)[0].tolist(),
                "eigenvalues": values[0].tolist(),
            }
        )
    (folder / "spectrum.json").write_text(json.dumps(results, indent=2) + "\n")
    total = after[0].size(-1)
    for number, block in enumerate(results, start=1):
        used = block["latents_for_95_percent"]
        print(
            f"block {number}: 95 % of the eigenvalues' sum by {min(used)} to "
            f"{max(used)} of {total} latents; stable rank "
            f"{min(block['stable_rank']):.1f} to {max(block['stable_rank']):.1f}, "
            f"before the training {max(block['stable_rank_before']):.1f} at most"
        )
    print(f"{folder}: spectrum.png, spectrum.json")
    return results


if __name__ == "__main__":
    main()
