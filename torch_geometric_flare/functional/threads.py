"""Compiled code on as many threads as torch has, on torch's own if possible."""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch


def run_on_threads(worker: Callable[[int], None], task: int, most: int) -> None:
    """Call `worker(task)` on several threads at once; it divides the work itself.

    Args:
        worker: A C function of one pointer.
        task: The pointer.
        most: The most threads that have anything to do.
    """
    threads = min(torch.get_num_threads(), most)
    if threads <= 1:
        worker(task)
        return
    openmp = _openmp()
    if openmp is not None:
        # torch's own threads, which wait for work in a loop for a while: two pools
        # would disturb each other.
        openmp.GOMP_parallel(worker, ctypes.c_void_p(task), threads, 0)
        return
    helpers: list[Future[None]] = []
    try:
        with suppress(RuntimeError):  # the interpreter shuts down
            helpers += [
                _pool(threads - 1).submit(worker, task) for _ in range(threads - 1)
            ]
        worker(task)
    finally:
        # The task's memory must outlive them, whatever interrupts this thread.
        wait([helper for helper in helpers if not helper.cancel()])


@lru_cache(maxsize=1)
def _openmp() -> Any | None:
    """The OpenMP library that comes with torch, where its functions are known."""
    if not torch.backends.openmp.is_available():
        return None
    folder = Path(torch.__file__).parent
    places = sorted((folder / "lib").glob("libgomp*.so*"))
    places += sorted((folder.parent / "torch.libs").glob("libgomp*.so*"))
    for place in places:
        try:
            library = ctypes.CDLL(str(place))
            library.GOMP_parallel.restype = None
            return library
        except (OSError, AttributeError):
            continue
    return None


@lru_cache(maxsize=1)
def _pool(num_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(num_threads, thread_name_prefix="flare")


# Threads do not survive a fork: the child starts its own.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
