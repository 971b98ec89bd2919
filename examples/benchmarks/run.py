"""Measure time and memory of FLARE and other attention, as tables and plots.

    python examples/benchmarks/run.py

All operators are verified against their definition first. Times are for float32 and
interleaved runs; memory is that of a separate process. Everything is written to
runs/benchmarks, in less than ten minutes on two cores. `--device cuda` is untested.
"""

import argparse
import time
from pathlib import Path

import report
import torch
from network import run_networks
from operators import Shape
from ragged import run_ragged
from scaling import run_scaling

SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
QUICK = (100, 200)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """What can be chosen."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try it")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, help="threads of PyTorch")
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of points")
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--width", type=int, default=8, help="of a head")
    parser.add_argument("--latents", type=int, default=64, help="and slices")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Check, measure, write."""
    args = parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.set_default_device(args.device)
    start = time.perf_counter()
    shape = Shape(0, args.latents, args.heads, args.width)
    sizes = sorted(args.sizes or (QUICK if args.quick else SIZES))
    facts = report.machine()
    facts["shape"] = f"H={shape.heads} M={shape.num_latents} D={shape.width}"
    facts["load average before"] = report.load_average()
    for name, value in facts.items():
        print(f"{name:20} {value}", flush=True)

    scaling = run_scaling(
        shape, sizes, seconds=0.1 if args.quick else 5.0, patience=8.0
    )
    ragged = run_ragged(seconds=0.1 if args.quick else 12.0, quick=args.quick)
    networks = run_networks(seconds=0.1 if args.quick else 8.0, quick=args.quick)

    facts["load average after"] = report.load_average()
    facts["duration"] = f"{time.perf_counter() - start:.0f} s"
    args.out.mkdir(parents=True, exist_ok=True)
    report.write_csv(args.out / "scaling.csv", scaling)
    report.write_csv(args.out / "ragged.csv", ragged)
    report.write_csv(args.out / "networks.csv", networks)
    title = ", ".join(facts[name] for name in ("processor", "dtype", "shape"))
    title += f", threads: {facts['threads']}"
    report.plot(args.out / "scaling.png", scaling, title)
    text = report.markdown(facts, scaling, ragged, networks)
    (args.out / "benchmarks.md").write_text(text, encoding="utf-8")
    print(text)
    print(f"{args.out}: {', '.join(sorted(path.name for path in args.out.iterdir()))}")


if __name__ == "__main__":
    main()
