"""The assert for points distributed over processes, and a process launcher."""

import multiprocessing
import pickle
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from torch_geometric_flare.functional import distributed_sum, reduce_gradients
from torch_geometric_flare.nn.checks import check_positive
from torch_geometric_flare.testing.laws import _gradients, _ragged_input


def run_processes(
    function: Callable[..., Any], world_size: int, *args: Any, timeout: float = 60.0
) -> list[Any]:
    """Call a function in several processes that form one local `gloo` group.

    The processes rendezvous through a file, so any number of such calls may run at
    once. Each process uses one thread. After a process has failed, the others have
    `timeout` seconds to exit. Call this under `if __name__ == "__main__":` in a script,
    because each process imports it.

    Args:
        function: A function in a module that the processes can import. The group is
            `torch.distributed.group.WORLD`.
        world_size: Number of processes.
        *args: Its arguments, which must be picklable.
        timeout: Seconds that one process waits for another.

    Returns:
        The results of the processes in the order of ranks: tensors and plain values.

    Raises:
        RuntimeError: If processes fail, with all their errors.
    """
    payload = pickle.dumps((function, args))
    # Processes forked from a server with preloaded imports start quickly.
    method = "spawn" if sys.platform == "win32" else "forkserver"
    context: Any = multiprocessing.get_context(method)
    if method == "forkserver":
        loaded = [name for name in ("lightning",) if name in sys.modules]
        context.set_forkserver_preload(["torch", __name__, *loaded])
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        processes: list[BaseProcess] = [
            context.Process(
                target=_work, args=(rank, world_size, folder, timeout, payload)
            )
            for rank in range(world_size)
        ]
        for process in processes:
            process.start()
        _join(processes, timeout)
        errors = [
            _error(rank, process, folder)
            for rank, process in enumerate(processes)
            if process.exitcode != 0
        ]
        if errors:
            raise RuntimeError("\n".join(errors))
        return [
            torch.load(folder / f"{rank}.pt", weights_only=True)
            for rank in range(world_size)
        ]


def _work(
    rank: int, world_size: int, folder: Path, timeout: float, payload: bytes
) -> None:
    """Join the group, call the function and save the result in a process."""
    torch.set_num_threads(1)
    try:
        dist.init_process_group(
            "gloo",
            init_method=(folder / "store").as_uri(),
            rank=rank,
            world_size=world_size,
            timeout=timedelta(seconds=timeout),
        )
        function, args = pickle.loads(payload)
        torch.save(function(*args), folder / f"{rank}.pt")
        dist.destroy_process_group()
    except Exception:
        (folder / f"{rank}.txt").write_text(traceback.format_exc(), encoding="utf-8")
        sys.exit(1)


def _join(processes: Sequence[BaseProcess], grace: float) -> None:
    """Wait for processes; kill those that run longer than `grace` after a failure."""
    deadline = None
    try:
        while running := [p for p in processes if p.exitcode is None]:
            if deadline is None and any(p.exitcode for p in processes):
                deadline = time.monotonic() + grace
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                break
            wait([process.sentinel for process in running], remaining)
    finally:
        for process in processes:
            if process.exitcode is None:
                process.kill()
            process.join()


def _error(rank: int, process: BaseProcess, folder: Path) -> str:
    report = folder / f"{rank}.txt"
    if report.exists():
        return f"process {rank} failed:\n{report.read_text(encoding='utf-8')}"
    return f"process {rank} ended with exit code {process.exitcode}"


def assert_point_parallel(
    module: nn.Module,
    in_channels: int,
    world_size: int = 2,
    sizes: Sequence[int] = (1, 2, 63, 0, 500),
    shards: Sequence[int] | None = None,
    *,
    weighted: bool = False,
    atol: float = 1e-10,
    rtol: float = 1e-10,
    timeout: float = 60.0,
) -> None:
    """Assert that distributing points over processes does not change the result.

    Points are distributed at random over processes of a local `gloo` group. The output
    at each point, a loss summed over all points, and, after `reduce_gradients`, the
    gradients of the input and of every parameter are compared with those of this
    process. In a script, call it under `if __name__ == "__main__":`.

    Args:
        module: Called on the CPU as `module(x, batch, batch_size)` in this process and
            as `module(x, batch, batch_size, group=group)` in the others, which must be
            able to import its class. Use float64.
        in_channels: Width of the module's input.
        world_size: Number of processes.
        sizes: Number of points of each graph; zero for an empty graph.
        shards: Number of points of each process, possibly zero. Default: unequal
            numbers.
        weighted: Whether to also pass `weight=weight`, one number per point.
        atol: Absolute tolerance.
        rtol: Relative tolerance.
        timeout: Seconds that one process waits for another.

    Raises:
        ValueError: If `world_size` is not a positive integer, or `shards` is not one
            number per process that sum to the number of points.
        AssertionError: If a result differs.
        RuntimeError: If a process fails.
    """
    check_positive(world_size=world_size)
    x, batch, parameters = _ragged_input(module, in_channels, sizes)
    if shards is None:
        shards = _unequal(len(x), world_size)
    if len(shards) != world_size or sum(shards) != len(x):
        raise ValueError(
            f"shards is {tuple(shards)}, expected {world_size} numbers that sum to "
            f"the {len(x)} points of sizes"
        )
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    rows = [part.sort().values for part in order.split(list(shards))]
    measure = torch.linspace(0.1, 10, len(x), dtype=x.dtype) if weighted else None
    whole = module(x, batch, len(sizes), **_keyword(measure))
    weights = torch.cos(torch.arange(whole.numel(), dtype=whole.dtype)).view_as(whole)
    grad_x, *grads = _gradients(whole, [x, *parameters])
    loss = (whole * weights).sum()
    results = run_processes(
        _run_shard,
        world_size,
        module,
        [
            (
                x.detach()[part],
                batch[part],
                weights[part],
                None if measure is None else measure[part],
            )
            for part in rows
        ],
        len(sizes),
        timeout=timeout,
    )
    for part, result in zip(rows, results, strict=True):
        for actual, expected in zip(
            result, [whole[part], loss, grad_x[part], *grads], strict=True
        ):
            torch.testing.assert_close(actual, expected.detach(), atol=atol, rtol=rtol)


def _unequal(points: int, parts: int) -> list[int]:
    """Return numbers in the ratio 1 : 2 : 3 ... that sum to `points`."""
    ends = [points * r * (r + 1) // (parts * (parts + 1)) for r in range(parts + 1)]
    return [end - start for start, end in zip(ends, ends[1:], strict=False)]


def _keyword(weight: Tensor | None) -> dict[str, Tensor]:
    return {} if weight is None else {"weight": weight}


def _run_shard(
    module: nn.Module,
    shards: list[tuple[Tensor, Tensor, Tensor, Tensor | None]],
    num_graphs: int,
) -> list[Tensor]:
    """Return output, loss and gradients for the points of this process."""
    group = dist.group.WORLD
    assert group is not None
    x, batch, weights, measure = shards[group.rank()]
    x.requires_grad_()
    out = module(x, batch, num_graphs, group=group, **_keyword(measure))
    loss = distributed_sum((out * weights).sum(), group)
    loss.backward()
    parameters = [p for p in module.parameters() if p.requires_grad]
    reduce_gradients(parameters, group)
    leaves = [x, *parameters]
    grads = [torch.zeros_like(t) if t.grad is None else t.grad for t in leaves]
    return [out.detach(), loss.detach(), *grads]
