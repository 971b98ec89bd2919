"""Measure time and memory of all operators against the number of points."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import operators
import torch
from check import check_all, check_at_size
from measure import (
    Step,
    available_memory,
    in_own_process,
    make_step,
    path_of,
    peak_of,
    ratio,
    time_interleaved,
)
from operators import Shape

MODES = {"forward": False, "forward + backward": True}


@dataclass(frozen=True)
class Result:
    """One measurement.

    Args:
        operator: Its name.
        mode: One of `MODES`.
        num_points: Points.
        seconds: Median time of a run.
        times_flare: Median ratio to the time of FLARE in the same round.
        rounds: Timed runs.
        peak_bytes: Growth of memory during one run, its inputs not counted.
        path: How this package computed attention; empty for its rivals.
    """

    operator: str
    mode: str
    num_points: int
    seconds: float
    times_flare: float
    rounds: int
    peak_bytes: float
    path: str = ""


def prepare(name: str, shape: Shape, backward: bool) -> Step:
    """A run of an operator on inputs drawn for it."""
    case = operators.OPERATORS[name](shape, torch.float32)
    leaves = [*case.inputs, *case.parameters]
    grad = torch.ones_like(case.inputs[-1]) if backward else None  # as the output
    return make_step(case.function, case.inputs, leaves, grad)


def probe(name: str, shape: Shape, backward: bool, threads: int, device: str) -> int:
    """Peak memory of one run in a separate process."""
    torch.set_num_threads(threads)
    torch.set_default_device(device)
    prepare(name, replace(shape, num_points=1024), backward)()  # libraries and threads
    return peak_of(prepare(name, shape, backward))


def expected(results: Sequence[Result], quantity: str, num_points: int) -> float:
    """What a larger size will take, going on as between the last two sizes."""
    if not results:
        return 0.0
    power = 2.0
    if quantity == "peak_bytes":
        power = 1.0  # of all of them; what small runs take is next to nothing, or noise
    elif len(results) > 1:
        power = growth(results[-2:], quantity)
    last = results[-1]
    return getattr(last, quantity) * (num_points / last.num_points) ** power


def growth(results: Sequence[Result], quantity: str) -> float:
    """Exponent of the growth with the points, by least squares in logarithms."""
    pairs = [
        (math.log(result.num_points), math.log(max(1e-9, getattr(result, quantity))))
        for result in results
    ]
    if len(pairs) < 2 or any(math.isnan(y) for _, y in pairs):
        return math.nan
    slope, _ = statistics.linear_regression(*zip(*pairs, strict=True))
    return slope


def run_scaling(
    shape: Shape, sizes: Sequence[int], seconds: float, patience: float
) -> list[Result]:
    """Check every operator, then measure it on larger and larger point clouds.

    Args:
        shape: Latents, heads and width.
        sizes: Numbers of points, ascending.
        seconds: About how long to time all operators at one size in one mode.
        patience: An operator is left out from the size at which one run is expected to
            take more seconds than this, or more than half of the free memory.

    Raises:
        WrongOperator: If one differs from its definition.
    """
    check_all(shape)
    results: list[Result] = []
    for num_points in sizes:
        at_size = replace(shape, num_points=num_points)
        check_at_size(at_size)
        for mode, backward in MODES.items():
            peaks = {}
            for name in operators.OPERATORS:
                past = [r for r in results if (r.operator, r.mode) == (name, mode)]
                left_out = past and past[-1].num_points != _before(num_points, sizes)
                memory = 2 * expected(past, "peak_bytes", num_points)
                if (
                    left_out
                    or expected(past, "seconds", num_points) > patience
                    or memory > available_memory()
                ):
                    continue
                threads = torch.get_num_threads()
                device = str(torch.get_default_device())
                peak = in_own_process(probe, name, at_size, backward, threads, device)
                if not math.isnan(peak):
                    peaks[name] = peak
            steps = {name: prepare(name, at_size, backward) for name in peaks}
            times = time_interleaved(steps, seconds)
            for name, peak in peaks.items():
                found = Result(
                    name,
                    mode,
                    num_points,
                    statistics.median(times[name]),
                    ratio(times[name], times[operators.FLARE]),
                    len(times[name]),
                    peak,
                    path_of(steps[name]),
                )
                results.append(found)
                print(
                    f"{at_size}  {mode:18}  {name:30} {found.seconds * 1e3:10.2f} ms "
                    f"{found.times_flare:7.2f} x FLARE {peak / 1e6:9.1f} MB  "
                    f"{found.path}",
                    flush=True,
                )
    return results


def _before(num_points: int, sizes: Sequence[int]) -> int:
    return sizes[sizes.index(num_points) - 1]
