"""Run compiled code on as many threads as torch uses, on its own where possible."""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch


def run_on_threads(worker: Callable[[int], None], address: int, most: int) -> None:
    """Call `worker(address)` on several threads at once.

    Args:
        worker: A C function of one pointer, which divides the work itself.
        address: The pointer.
        most: The largest number of threads that have work.
    """
    threads = min(torch.get_num_threads(), most)
    if threads <= 1:
        worker(address)
        return
    openmp = _openmp()
    if openmp is not None:
        # torch's own threads, which wait for work in a loop for a while: two pools
        # would disturb each other.
        openmp.GOMP_parallel(worker, ctypes.c_void_p(address), threads, 0)
        return
    helpers: list[Future[None]] = []
    try:
        with suppress(RuntimeError):  # the interpreter shuts down
            helpers += [
                _pool(threads - 1).submit(worker, address) for _ in range(threads - 1)
            ]
        worker(address)
    finally:
        # The memory of the tasks must outlive them, whatever interrupts this thread.
        wait([helper for helper in helpers if not helper.cancel()])


@lru_cache(maxsize=1)
def _openmp() -> Any | None:
    """Load the OpenMP library that comes with torch, where its functions are known."""
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
