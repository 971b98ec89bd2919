"""Cost of processing a point cloud in chunks instead of at once.

    python examples/benchmarks/chunks.py --points 100000 --chunks 16384 4096 1000

Checks that both give the same result. Prints the time relative to the whole cloud at
once: below 1 is faster.
"""

import argparse
import os

import torch
from check import assert_close
from measure import ratio, time_interleaved

from torch_geometric_flare import FLARE

MODES = ("inference", "training step")


def run_chunks(
    num_points: int, chunks: list[int], seconds: float
) -> dict[str, dict[str, float]]:
    """For each mode, the seconds of the whole and the ratio of each chunk size."""
    torch.manual_seed(0)
    model = FLARE(3, 64, 1, num_layers=8, heads=8, num_latents=64)
    x, target = torch.rand(num_points, 3), torch.rand(num_points, 1)

    def predict(size):
        model.chunk_size = size
        with torch.no_grad():
            return model(x)

    def step(size):
        model.chunk_size = size
        model.zero_grad()
        (model(x) - target).square().mean().backward()

    whole = predict(None)
    for size in chunks:
        assert_close(f"chunks of {size}", [predict(size)], [whole], 1e-4)
    results = {}
    for mode, run in zip(MODES, (predict, step), strict=True):
        functions = {
            str(size): lambda run=run, size=size: run(size) for size in (None, *chunks)
        }
        times = time_interleaved(functions, seconds)
        found = sorted(times["None"])
        results[mode] = {"whole": found[len(found) // 2]} | {
            str(size): ratio(times[str(size)], times["None"]) for size in chunks
        }
    return results


def main(argv=None):
    """Print a row for each number of threads and mode."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--chunks", type=int, nargs="+", default=[16_384, 4_096, 1_000])
    parser.add_argument("--seconds", type=float, default=20.0, help="for each row")
    args = parser.parse_args(argv)
    print(f"{args.points:,} points, load {os.getloadavg()[0]:.2f}")
    print("| threads | | whole |" + "".join(f" {size:,} |" for size in args.chunks))
    print("|--:|---|--:|" + "--:|" * len(args.chunks))
    for threads in args.threads:
        torch.set_num_threads(threads)
        for mode, row in run_chunks(args.points, args.chunks, args.seconds).items():
            ratios = "".join(f" {row[str(size)]:.2f} |" for size in args.chunks)
            print(f"| {threads} | {mode} | {row['whole']:.3g} s |{ratios}", flush=True)


if __name__ == "__main__":
    main()
