"""A few threads for a few long calls that run without the interpreter's lock."""

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch


@lru_cache(maxsize=1)
def _pool(num_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(num_threads, thread_name_prefix="flare")


# Threads do not survive a fork: the child starts its own.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)


def over_ranges(function: Callable[[int], None], count: int) -> None:
    """Call `function(0)` to `function(count - 1)`, on as many threads as torch has.

    The caller's thread takes its part; one that is late gets fewer calls.
    """
    todo = deque(range(count))

    def work() -> None:
        while True:
            try:
                i = todo.popleft()
            except IndexError:
                return
            function(i)

    helpers = []
    others = min(torch.get_num_threads(), count) - 1
    if others > 0:
        pool = _pool(others)
        helpers = [pool.submit(work) for _ in range(others)]
    work()
    for helper in helpers:
        if not helper.cancel():
            helper.result()
