"""The rows of ragged batches, cut into tasks for threads."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# Tasks are whole blocks of points, as the kernels take them.
BLOCK = 256

# A graph is cut into so many tasks, but none of fewer rows than this.
_MOST_TASKS = 32
_LEAST_ROWS = 512

# Numbers of the widest vector.
_LANES = 16

# Elements of E that are worth another thread.
_LEAST_WORK = 1 << 17


class RowTasks(NamedTuple):
    """The rows of several graphs, cut into tasks.

    How a graph is cut depends on nothing but its size, and so do its results, to the
    last bit: neither on other graphs nor on the number of threads.

    Args:
        table: Graph, first row, last row plus one, and first column of `scatter`'s
            weights, `[T, 4]`.
        sizes: Rows of each graph.
        num_columns: Columns of the weights.
        whole: Whether every graph is one task.
    """

    table: Tensor
    sizes: tuple[int, ...]
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
            columns += -(-size // _LANES) * _LANES
        whole = [row[0] for row in table] == list(range(len(sizes)))
        return cls(
            torch.tensor(table, dtype=torch.long, device="cpu").view(-1, 4),
            tuple(sizes),
            columns,
            whole,
        )

    @property
    def num_rows(self) -> int:
        """Rows of all graphs together."""
        return sum(self.sizes)

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
