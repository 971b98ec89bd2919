"""Split rows into tasks and run them on threads."""

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

# Number of points per block. Tasks start at a multiple of it, as the kernels require.
BLOCK = 256

# A graph is split into at most this many tasks of at least this many rows.
_MOST_TASKS = 32
_LEAST_ROWS = 512

WIDEST_VECTOR = 64
"""Size in bytes of the widest vector register of any processor."""

# Number of float32 values in the widest vector register.
_LANES = WIDEST_VECTOR // 4

# Number of scores that justifies another thread.
_LEAST_WORK = 1 << 17


def count_columns(sizes: Sequence[int]) -> int:
    """Return the number of columns of `scatter`'s weights for graphs of these sizes."""
    columns = 0
    for size in sizes:
        columns += -(-size // _LANES) * _LANES
    return columns


class RowTasks(NamedTuple):
    """The rows of several graphs, split into tasks.

    The split of a graph depends only on its size. Its results are therefore bitwise
    independent of other graphs and of the number of threads.

    Args:
        table: Graph, first row, last row plus one, and first column of `scatter`'s
            weights, `[T, 4]`.
        sizes: Number of rows of each graph.
        num_rows: Total number of rows.
        num_columns: Number of columns of the weights.
        whole: Whether every graph is a single task.
    """

    table: Tensor
    sizes: tuple[int, ...]
    num_rows: int
    num_columns: int
    whole: bool

    @classmethod
    def from_sizes(cls, sizes: Sequence[int]) -> "RowTasks":
        """Split consecutive graphs with these numbers of points into tasks."""
        table = []
        first = columns = 0
        for graph, size in enumerate(sizes):
            length = max(_LEAST_ROWS, -(-size // (_MOST_TASKS * BLOCK)) * BLOCK)
            for start in range(0, size, length):
                stop = min(start + length, size)
                table.append((graph, first + start, first + stop, columns + start))
            first += size
            columns += -(-size // _LANES) * _LANES  # as `count_columns` does
        # An empty graph has no task, so equal counts alone do not imply one task each.
        whole = len(table) == len(sizes) and 0 not in sizes
        return cls(
            torch.tensor(table, dtype=torch.long, device="cpu").view(-1, 4),
            tuple(sizes),
            first,
            columns,
            whole,
        )

    def threads(self, q: Tensor) -> int:
        """Return the maximum useful number of threads."""
        elements = self.num_rows * q.size(-3) * q.size(-2)
        return int(min(torch.get_num_threads(), elements // _LEAST_WORK))

    def by_graph(self, totals: Tensor) -> Tensor:
        """Sum over the tasks of each graph."""
        if self.whole:
            return totals
        sums = totals.new_zeros(len(self.sizes), *totals.shape[1:])
        return sums.index_add_(0, self.table[:, 0], totals)

    def merge(self, totals: Tensor, top: Tensor) -> tuple[Tensor, Tensor]:
        """Merge the sums of each graph's tasks, which are relative to task maxima.

        Args:
            totals: Sums divided by two to the power of `top`.
            top: Maxima of the exponents.

        Shapes:
            - `totals`: $[T, H, R, M]$
            - `top`: $[T, H, M]$

        Returns:
            The sums relative to the maxima of each graph, $[B, H, R, M]$, and these
            maxima, $[B, H, M]$, which are minus infinity for a graph without rows.
        """
        if self.whole:
            return totals, top
        graph = self.table[:, 0]
        highest = top.new_full((len(self.sizes), *top.shape[1:]), -torch.inf)
        index = graph.view(-1, 1, 1).expand_as(top)
        highest = highest.scatter_reduce(0, index, top, "amax")
        # Not torch.exp2: its rounding depends on the position in the tensor.
        factors = ((top - highest[graph]) * math.log(2)).exp().unsqueeze(2)
        return self.by_graph(totals * factors), highest


class Kernel:
    """Compiled code that is called for each of several tasks.

    Args:
        worker: A C function of one pointer to integers: the next task, the number of
            tasks, the address of their table, the arguments. It computes tasks until
            none is left. Several threads can call it at once.
        engine: The LLVM engine that owns the code.
    """

    def __init__(self, worker: Any, engine: Any) -> None:
        self.worker = worker
        self.engine = engine

    def __call__(self, tasks: Tensor, threads: int, *arguments: int) -> None:
        """Compute all tasks.

        Args:
            tasks: Graph, start, stop and place of each task, as integers.
            threads: Maximum useful number of threads.
            arguments: Pointers and integers to pass to the code.

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
            # Use PyTorch's own threads: they spin for a while when idle, so a second
            # pool would compete with them.
            openmp.GOMP_parallel(worker, ctypes.c_void_p(address), threads, 0)
            return
        pool, helpers = _pool(threads - 1), list[Future[None]]()
        try:
            with suppress(RuntimeError):  # the interpreter is shutting down
                helpers += [pool.submit(worker, address) for _ in range(threads - 1)]
            worker(address)
        finally:
            # Wait even after an exception: the helpers still use the tasks' memory.
            wait([helper for helper in helpers if not helper.cancel()])


@lru_cache(maxsize=1)
def _openmp() -> Any | None:
    """Load the OpenMP library that PyTorch ships, if it is GNU OpenMP."""
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


# Threads do not survive a fork, so the child process starts new ones.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
