"""Distribute the points of one cloud over processes, with the results of one process.

    python examples/point_parallel.py                                  # starts two
    torchrun --nproc-per-node 4 examples/point_parallel.py             # or as many
    python examples/point_parallel.py --num-points 200000 --chunk-size 20000

Every process holds only its points. The first one then computes loss and gradients with
all points and compares.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:  # waiting threads yield the CPU
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import argparse
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from torch_geometric_flare import FLARE
from torch_geometric_flare.functional import reduce_gradients
from torch_geometric_flare.metrics import relative_l2


def parse_args(argv=None):
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--num-points", type=int, default=20_000)
    add("--processes", type=int, default=2, help="processes, without torchrun")
    add("--num-layers", type=int, default=4)
    add("--num-latents", type=int, default=64)
    add("--chunk-size", type=int, help="points to compute at a time")
    return parser.parse_args(argv)


def cloud(rows, num_points, device):
    """Some rows of a point cloud of two bodies, with a smooth field on each.

    A process of a real training reads its rows from a file.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(num_points, 3, generator=generator, dtype=torch.float64)
    batch = (torch.arange(num_points) >= num_points // 3).long()
    y = torch.sin(5 * x.sum(1, keepdim=True)) + batch.unsqueeze(1)
    return [t[rows].to(device) for t in (x, y, batch)]


def step(model, rows, args, device, group=None):
    """Forward and backward at some of the points; the seconds they take."""
    x, y, batch = cloud(rows, args.num_points, device)
    model.zero_grad()
    if group is not None:
        dist.barrier(group)
    start = time.perf_counter()
    # The error of the whole cloud, the same number on every process.
    loss = relative_l2(model(x, batch, 2, group=group), y, batch, 2, group).mean()
    loss.backward()
    if group is not None:
        reduce_gradients(model.parameters(), group)
    gradients = [p.grad.clone() for p in model.parameters()]
    return loss.item(), gradients, time.perf_counter() - start


def work(args, device):
    """What every process does."""
    group = dist.group.WORLD
    rank, size = group.rank(), group.size()
    torch.manual_seed(0)  # the same weights everywhere
    model = FLARE(
        3,
        64,
        1,
        num_layers=args.num_layers,
        num_latents=args.num_latents,
        chunk_size=args.chunk_size,
    ).to(device, torch.float64)
    # Unequal parts do as well, and so do empty ones.
    ends = [args.num_points * r // size for r in range(size + 1)]
    loss, gradients, seconds = step(
        model, slice(ends[rank], ends[rank + 1]), args, device, group
    )
    if rank > 0:
        return
    expected, wanted, alone = step(model, slice(None), args, device)
    deviation = max(
        ((found - right).abs().max() / right.abs().max()).item()
        for found, right in zip(gradients, wanted, strict=True)
    )
    latents = 2 * 8 * args.num_latents  # graphs, heads and latents
    merged = 8 * (latents + 1), 8 * latents * 9, 8 * latents * 9
    print(f"{args.num_points:,} points over {size} processes: {model}")
    print(f"loss           {loss:.12f}   one process  {expected:.12f}")
    print(f"gradients      within {deviation:.1e} of those of one process")
    print(f"sent per block {sum(merged) / 1e3:,.0f} kB, for any number of points")
    print(f"seconds        {seconds:.2f}             one process  {alone:.2f}")
    if abs(loss - expected) > 1e-10 or deviation > 1e-8:
        raise SystemExit("the result of the processes differs from that of one process")


def join_and_work(rank, args, world_size, meeting_point):
    """Become a process of the group, by torchrun's variables or through a file."""
    cuda = torch.cuda.is_available() and world_size <= torch.cuda.device_count()
    device = torch.device("cuda", rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    options = {} if meeting_point == "env://" else {"rank": rank}
    if options:
        options["world_size"] = world_size
        torch.set_num_threads(max(1, torch.get_num_threads() // world_size))
    dist.init_process_group(
        "nccl" if cuda else "gloo",
        init_method=meeting_point,
        timeout=timedelta(minutes=5),
        **options,
    )
    try:
        work(args, device)
    finally:
        dist.destroy_process_group()


def main(argv=None):
    """Join the processes of torchrun, or start some."""
    args = parse_args(argv)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        local_size = int(os.environ["LOCAL_WORLD_SIZE"])
        join_and_work(int(os.environ["LOCAL_RANK"]), args, local_size, "env://")
        return
    with tempfile.TemporaryDirectory() as folder:
        meeting_point = (Path(folder) / "processes").as_uri()
        torch.multiprocessing.spawn(
            join_and_work,
            (args, args.processes, meeting_point),
            nprocs=args.processes,
        )


if __name__ == "__main__":
    main()
