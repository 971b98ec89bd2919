"""A few threads that each run a long sequence of small operations.

Splitting every small operation over the cores, as torch does by itself, costs a barrier
an operation, and each of them waits for a core that something else keeps busy. Here the
points are split once and the threads meet once.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch

Result = TypeVar("Result")

# Ranges for each thread.
_RANGES = 4


@lru_cache(maxsize=1)
def _pool(num_threads: int) -> ThreadPoolExecutor:
    """Threads whose own operations run on one core each."""
    ready = threading.Barrier(num_threads + 1)

    def start() -> None:
        torch.set_num_threads(1)  # of this thread, and the default of later ones
        ready.wait()

    pool = ThreadPoolExecutor(
        num_threads, thread_name_prefix="flare", initializer=start
    )
    for _ in range(num_threads):
        pool.submit(ready.wait)
    ready.wait()
    ready.wait()
    torch.set_num_threads(num_threads)
    return pool


# Threads do not survive a fork: the child starts its own.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)


def over_ranges(
    function: Callable[[int, int], Result], length: int, block: int
) -> list[Result]:
    """Call `function(start, stop)` on consecutive ranges, several for each core.

    Args:
        function: Takes a range; its operations run on one core, without gradients.
        length: Where the last range ends.
        block: The ranges are cut at multiples of this.

    Returns:
        What the calls returned, in order of the ranges.
    """
    blocks = max(1, -(-length // block))
    num_threads = min(torch.get_num_threads(), blocks)
    if num_threads == 1:
        return [function(0, length)]
    inference = torch.is_inference_mode_enabled()

    def call(start: int) -> Result:
        with torch.inference_mode(inference), torch.no_grad():
            return function(start, min(start + step, length))

    # More ranges than threads: one on a core that is busy otherwise gets fewer.
    step = -(-blocks // (_RANGES * num_threads)) * block
    pool = _pool(torch.get_num_threads())
    return list(pool.map(call, range(0, length, step)))
