"""Time interleaved runs, and measure the peak memory of a run in a separate process.

On devices other than a CPU, times come from device events, and memory is that of the
device's allocator.
"""

import logging
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
    once = sum(seconds_of(step) for step in steps.values())
    times: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for _ in range(min(most, max(least, round(seconds / once)))):
        for name in names:
            times[name].append(seconds_of(steps[name]))
        names.append(names.pop(0))  # no one is always the first
    return times


def ratio(times: list[float], of: list[float]) -> float:
    """The median over the rounds of one step's time over another's."""
    return statistics.median(a / b for a, b in zip(times, of, strict=True))


def seconds_of(step: Step) -> float:
    """Time a step: by events where torch runs it on an accelerator."""
    device = torch.get_default_device()
    if device.type == "cpu":
        start = time.perf_counter()
        step()
        return time.perf_counter() - start
    first, last = (torch.Event(device, enable_timing=True) for _ in range(2))
    first.record()
    step()
    last.record()
    last.synchronize()
    return first.elapsed_time(last) / 1e3


def path_of(step: Step) -> str:
    """Run a step and return the ways that attention takes in it, by the log."""
    logger = logging.getLogger("torch_geometric_flare")
    found: dict[str, None] = {}

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found[record.getMessage().partition(": using ")[2].partition(";")[0]] = None

    level, handler = logger.level, Collect()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        step()
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
    return ", ".join(filter(None, found))


def peak_of(step: Step) -> int:
    """Bytes that are taken, at most, while a step runs, beside those taken before.

    On a CPU it is what this process grows by.
    """
    if torch.get_default_device().type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
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
