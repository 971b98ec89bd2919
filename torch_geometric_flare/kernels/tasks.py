"""Rows cut into tasks, and the threads that compute them."""

import ctypes
import math
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

# Tasks are whole blocks of points, as the kernels take them.
BLOCK = 256

# A graph is cut into so many tasks, but none of fewer rows than this.
_MOST_TASKS = 32
_LEAST_ROWS = 512

WIDEST_VECTOR = 64
"""Bytes of the widest vector of any processor."""

# Numbers of the widest vector.
_LANES = WIDEST_VECTOR // 4

# Elements of E that are worth another thread.
_LEAST_WORK = 1 << 17


def count_columns(sizes: Sequence[int]) -> int:
    """Return how many numbers a row of `scatter`'s weights has for these graphs."""
    columns = 0
    for size in sizes:
        columns += -(-size // _LANES) * _LANES
    return columns


class RowTasks(NamedTuple):
    """The rows of several graphs, cut into tasks.

    How a graph is cut depends on nothing but its size, and so do its results, to the
    last bit: neither on other graphs nor on the number of threads.

    Args:
        table: Graph, first row, last row plus one, and first column of `scatter`'s
            weights, `[T, 4]`.
        sizes: Rows of each graph.
        num_rows: Rows of all graphs together.
        num_columns: Columns of the weights.
        whole: Whether every graph is one task.
    """

    table: Tensor
    sizes: tuple[int, ...]
    num_rows: int
    num_columns: int
    whole: bool

    @classmethod
    def from_sizes(cls, sizes: Sequence[int]) -> "RowTasks":
        """Cut graphs of these numbers of points, whose rows follow one another."""
        table = []
        first = columns = 0
        for graph, size in enumerate(sizes):
            length = max(_LEAST_ROWS, -(-size // (_MOST_TASKS * BLOCK)) * BLOCK)
            for start in range(0, size, length):
                stop = min(start + length, size)
                table.append((graph, first + start, first + stop, columns + start))
            first += size
            columns += -(-size // _LANES) * _LANES  # as `count_columns` does
        # A graph without rows has no task, so as many tasks as graphs are not enough.
        whole = len(table) == len(sizes) and 0 not in sizes
        return cls(
            torch.tensor(table, dtype=torch.long, device="cpu").view(-1, 4),
            tuple(sizes),
            first,
            columns,
            whole,
        )

    def threads(self, q: Tensor) -> int:
        """Return the largest number of threads that is worth it."""
        elements = self.num_rows * q.size(-3) * q.size(-2)
        return int(min(torch.get_num_threads(), elements // _LEAST_WORK))

    def by_graph(self, totals: Tensor) -> Tensor:
        """Sum over the tasks of each graph."""
        if self.whole:
            return totals
        sums = totals.new_zeros(len(self.sizes), *totals.shape[1:])
        return sums.index_add_(0, self.table[:, 0], totals)

    def merge(self, totals: Tensor, top: Tensor) -> tuple[Tensor, Tensor]:
        """Sum over the tasks of each graph what is relative to maxima of each task.

        Args:
            totals: Sums divided by two to the power of `top`.
            top: Maxima of the exponents.

        Shapes:
            - `totals`: $[T, H, R, M]$
            - `top`: $[T, H, M]$

        Returns:
            The sums relative to the maxima of each graph, $[B, H, R, M]$, and these
            maxima, $[B, H, M]$: minus infinity for a graph without rows.
        """
        if self.whole:
            return totals, top
        graph = self.table[:, 0]
        highest = top.new_full((len(self.sizes), *top.shape[1:]), -torch.inf)
        index = graph.view(-1, 1, 1).expand_as(top)
        highest = highest.scatter_reduce(0, index, top, "amax")
        # Not torch's exp2: its bits depend on where in the tensor a number stands.
        factors = ((top - highest[graph]) * math.log(2)).exp().unsqueeze(2)
        return self.by_graph(totals * factors), highest


class Kernel:
    """Compiled code, to be called for each of several tasks.

    Args:
        worker: A C function of one pointer to integers: the next task, the number of
            tasks, the address of their table, the arguments. It computes tasks until
            none is left, on as many threads as call it.
        engine: What owns the code.
    """

    def __init__(self, worker: Any, engine: Any) -> None:
        self.worker = worker
        self.engine = engine

    def __call__(self, tasks: Tensor, threads: int, *arguments: int) -> None:
        """Compute all tasks.

        Args:
            tasks: Graph, start, stop and place of each task, integers.
            threads: The largest number of threads that is worth it.
            arguments: Pointers and integers of the code.

        Shapes:
            - `tasks`: $[T, 4]$
        """
        count = tasks.size(0)
        work = (ctypes.c_int64 * (3 + len(arguments)))(
            0, count, tasks.data_ptr(), *arguments
        )
        address = ctypes.addressof(work)
        worker = self.worker
        threads = min(threads, count, torch.get_num_threads())
        if threads <= 1:
            worker(address)
            return
        openmp = _openmp()
        if openmp is not None:
            # torch's own threads, which wait for work in a loop for a while: two pools
            # would disturb each other.
            openmp.GOMP_parallel(worker, ctypes.c_void_p(address), threads, 0)
            return
        pool, helpers = _pool(threads - 1), list[Future[None]]()
        try:
            with suppress(RuntimeError):  # the interpreter shuts down
                helpers += [pool.submit(worker, address) for _ in range(threads - 1)]
            worker(address)
        finally:
            # The tasks' memory must outlive the helpers, whatever interrupts this one.
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
