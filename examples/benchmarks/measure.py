"""Times of interleaved runs, and the peak memory of a run in a process of its own."""

import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch
from torch import Tensor

Step = Callable[[], object]


def make_step(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    leaves: Sequence[Tensor],
    grad: Tensor | None,
) -> Step:
    """One run: forward and backward from `grad`, or forward without gradients."""

    def forward() -> Tensor:
        with torch.no_grad():
            return function(*inputs)

    def both() -> tuple[Tensor, ...]:
        return torch.autograd.grad(function(*inputs), leaves, grad)

    return forward if grad is None else both


def time_interleaved(
    steps: Mapping[str, Step], seconds: float, least: int = 3, most: int = 100
) -> dict[str, list[float]]:
    """Time steps in turns, so that whatever disturbs one disturbs its rivals too.

    Args:
        steps: What to time.
        seconds: About how long to go on.
        least: Rounds at least.
        most: Rounds at most.

    Returns:
        The seconds of each step in each round.
    """
    start = time.perf_counter()
    for step in steps.values():
        step()
    once = time.perf_counter() - start
    times: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for _ in range(min(most, max(least, round(seconds / once)))):
        for name in names:
            start = time.perf_counter()
            steps[name]()
            times[name].append(time.perf_counter() - start)
        names.append(names.pop(0))  # no one is always the first
    return times


def ratio(times: list[float], of: list[float]) -> float:
    """The median over the rounds of one step's time over another's."""
    return statistics.median(a / b for a, b in zip(times, of, strict=True))


def peak_of(step: Step) -> int:
    """Bytes that this process grows by, at most, while it runs a step."""
    try:
        # Linux sets the high-water mark back to what is resident now.
        Path("/proc/self/clear_refs").write_text("5")
        before = _linux_status("VmRSS")
        step()
        return max(0, _linux_status("VmHWM") - before)
    except OSError:
        before = _high_water()
        step()
        return _high_water() - before


def _linux_status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {field}")


def _high_water() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def in_own_process(probe: Callable[..., int], *arguments: object) -> float:
    """The result of `probe(*arguments)` in a fresh process; NaN if it is killed."""
    # Forked from a process that has imported PyTorch and done nothing else.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch_geometric.nn", "torch_geometric_flare.nn"])
    try:
        with ProcessPoolExecutor(1, context) as pool:
            return float(pool.submit(probe, *arguments).result())
    except BrokenProcessPool:
        return float("nan")


def available_memory() -> float:
    """Bytes that may be taken without swapping; infinite where unknown."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
    except OSError:
        pass
    return float("inf")
