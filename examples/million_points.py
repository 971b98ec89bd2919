"""A million points in a few gigabytes: one training step, or inference between files.

    python examples/million_points.py                  # one step at 1,000,000 points
    python examples/million_points.py --predict        # 10,000,000 points, file to file

The points are random in a cube and the field is artificial: only time and memory matter
here. The network is that of the FLARE paper, untrained.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:  # waiting threads yield the CPU
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from torch_geometric_flare import FLARE
from torch_geometric_flare.metrics import relative_l2
from torch_geometric_flare.nn import predict_stream

HALF = {"model": None, "float16": torch.float16, "bfloat16": torch.bfloat16}


def parse_args(argv=None):
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--points", type=int, help="default 1,000,000, with --predict 10,000,000")
    add("--predict", action="store_true", help="inference instead of a training step")
    add("--chunk-size", type=int, default=4096, help="points to compute at a time")
    add("--channels", type=int, default=64)
    add("--heads", type=int, default=8)
    add("--latents", type=int, default=128)
    add("--layers", type=int, default=8)
    add("--folder", type=Path, help="keep the files of --predict in this folder")
    add("--residual", choices=["memory", "file"], default="memory")
    add("--residual-dtype", choices=HALF, default="model")
    args = parser.parse_args(argv)
    if args.points is not None and args.points < 1:
        parser.error(f"--points must be at least 1, got {args.points}")
    args.points = args.points or (10_000_000 if args.predict else 1_000_000)
    return args


def peak_memory():
    """The most memory that this process has had so far, in GB."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where getrusage would count the parent process as well
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024 / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def simulated_field(x):
    """A smooth made-up field of the coordinates, to have something to fit."""
    return torch.sin(6 * x[:, :1]) * torch.cos(4 * x[:, 1:2]) + x[:, 2:]


def show_progress(model, points, times):
    """A bar that each block moves on, as often as it computes a chunk."""
    total = times * points * model.num_layers
    bar = tqdm(total=total, unit=" points x blocks", unit_scale=True, mininterval=1)

    def advance(module, inputs):
        bar.update(len(inputs[0]))

    for block in model.blocks:
        block.feed_forward.register_forward_pre_hook(advance)
    return bar


def train_step(model, args):
    """Forward, backward and an update."""
    x = torch.rand(args.points, 3)
    target = simulated_field(x)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with show_progress(model, args.points, times=2):  # forward, and again in backward
        start = time.perf_counter()
        loss = relative_l2(model(x), target).mean()
        forward = time.perf_counter() - start
        memory = peak_memory()
        loss.backward()
        optimizer.step()
        seconds = time.perf_counter() - start
    loss = loss.item()
    print(f"loss {loss:.4f}; forward {forward:.1f} s, peak memory then {memory:.2f} GB")
    return {"seconds": seconds, "loss": loss}


def predict(model, args, folder):
    """From one file to another, with neither of them in memory."""
    source, sink = (
        np.lib.format.open_memmap(
            folder / f"simulated_{name}.npy", "w+", np.float32, (args.points, width)
        )
        for name, width in (("points", 3), ("field", 1))
    )
    generator = np.random.default_rng(0)
    for start in range(0, args.points, 1 << 20):
        part = source[start : start + (1 << 20)]
        part[:] = generator.random(part.shape, dtype=np.float32)
    with show_progress(model, args.points, times=1):
        start = time.perf_counter()
        predict_stream(
            model,
            source,
            sink,
            args.chunk_size,
            residual_dir=folder if args.residual == "file" else None,
            residual_dtype=HALF[args.residual_dtype],
        )
        sink.flush()
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "mean": float(sink.mean(dtype=np.float64))}


def main(argv=None):
    """Run what the command line asks for; print time and memory."""
    args = parse_args(argv)
    torch.manual_seed(0)
    sizes = args.channels, 1, args.layers, args.heads, args.latents
    model = FLARE(3, *sizes, chunk_size=args.chunk_size)
    print(f"{args.points:,} random points in chunks of {args.chunk_size:,}; {model}")
    before = peak_memory()
    if not args.predict:
        results = train_step(model, args)
    elif args.folder:
        args.folder.mkdir(parents=True, exist_ok=True)
        results = predict(model, args, args.folder)
    else:
        with tempfile.TemporaryDirectory() as folder:
            results = predict(model, args, Path(folder))
    results |= {"points": args.points, "peak_memory_gb": peak_memory()}
    print(
        f"{'inference' if args.predict else 'training step'}: "
        f"{results['seconds']:.1f} s on {torch.get_num_threads()} threads, float32; "
        f"peak memory {results['peak_memory_gb']:.2f} GB, of which {before:.2f} GB "
        "before the first point"
    )
    return results


if __name__ == "__main__":
    main()
