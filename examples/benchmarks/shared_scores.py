"""Compare the shared-score kernels with two fused attention calls.

    python examples/benchmarks/shared_scores.py --threads 2 --points 10000 100000

Prints the ratio of their times over shapes and threads (above one: the kernels are
faster). Run it on an otherwise idle machine.
"""

import argparse
import os
import statistics

import torch
from measure import make_step, time_interleaved
from operators import two_calls

from torch_geometric_flare.functional import attention_backend, flare_attention

HEADS = 8


def shared_scores(q, k, v):
    """FLARE by the kernels that share scores, and by nothing else."""
    with attention_backend("shared_scores"):
        return flare_attention(q[0], k, v)


def ratios(points, latents, width, seconds):
    """Time of two calls over time of the kernels, forward and forward + backward."""
    q = (0.1 * torch.randn(1, HEADS, latents, width)).requires_grad_()
    k, v, grad = (0.5 * torch.randn(3, 1, points, HEADS, width)).transpose(2, 3)
    k, v = k.requires_grad_(), v.requires_grad_()
    torch.testing.assert_close(
        shared_scores(q, k, v), two_calls(q, k, v), atol=1e-4, rtol=1e-4
    )
    found = []
    for g in (None, grad):
        functions = {"two": two_calls, "shared": shared_scores}
        times = time_interleaved(
            {
                name: make_step(function, (q, k, v), (q, k, v), g)
                for name, function in functions.items()
            },
            seconds,
        )
        found.append(
            statistics.median(times["two"]) / statistics.median(times["shared"])
        )
    return found


def main(argv=None):
    """Print a row per shape."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--points", type=int, nargs="+", default=[1000, 10_000, 100_000]
    )
    parser.add_argument("--latents", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--widths", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--seconds", type=float, default=1.0, help="for each ratio")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    print(f"float32, {HEADS} heads, {args.threads} threads, torch {torch.__version__}")
    print("| points | width | latents | forward | forward + backward | load |")
    print("|---|---|---|---|---|---|")
    for points in args.points:
        for width in args.widths:
            for latents in args.latents:
                forward, both = ratios(points, latents, width, args.seconds)
                print(
                    f"| {points} | {width} | {latents} | {forward:.2f} | {both:.2f} "
                    f"| {os.getloadavg()[0]:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
