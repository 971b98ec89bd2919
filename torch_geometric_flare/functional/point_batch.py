"""The layout of a ragged batch of point sets, computed once per forward."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import torch
from torch import Tensor

from torch_geometric_flare.functional.tasks import Tasks

# Padding rows that cost about as much as one more attention call.
_CALL_ROWS = 256


def group_graphs(
    sizes: Sequence[int],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[list[list[int]], bool]:
    """Which graphs share one attention call: the choice of layout.

    Half precision on CUDA takes any sizes in one call of the fused kernel for ragged
    sequences. Otherwise graphs are taken from the largest to the smallest, and one
    joins the current group where padding it to the group's largest costs less than
    a call of its own. So graphs of equal size form one group without padding, a few
    large ones a group each, and many small ones a single padded group.

    Args:
        sizes: Points of each graph.
        device: Where attention runs.
        dtype: What attention runs in.

    Returns:
        The groups, each a list of graph numbers, and whether they run in the kernel
        for ragged sequences. Empty graphs are in no group.
    """
    filled = [graph for graph, size in enumerate(sizes) if size > 0]
    ragged = len({sizes[graph] for graph in filled}) > 1
    half = dtype in (torch.float16, torch.bfloat16)
    if ragged and half and torch.device(device).type == "cuda":
        return [filled], True
    groups: list[list[int]] = []
    for graph in sorted(filled, key=lambda graph: -sizes[graph]):
        if groups and sizes[groups[-1][0]] - sizes[graph] <= _CALL_ROWS:
            groups[-1].append(graph)
        else:
            groups.append([graph])
    # In the batch's own order wherever the groups allow it: no rows to move then.
    return sorted(sorted(group) for group in groups), False


@dataclass(frozen=True, eq=False)
class PointGroup:
    """Graphs that run together as one dense block.

    Args:
        graphs: Their numbers in the batch.
        num_points: Points of all of them together.
        size: Points of the largest.
        rows: Which rows of the flattened block are points, `[num_points]`; `None`
            without padding.
        mask: True where a row of the block is a point, `[len(graphs), size]`.
    """

    graphs: tuple[int, ...]
    num_points: int
    size: int
    rows: Tensor | None = None
    mask: Tensor | None = None

    @classmethod
    def from_sizes(
        cls, graphs: Sequence[int], sizes: Sequence[int], device: torch.device
    ) -> "PointGroup":
        """Lay out `graphs`, whose points number `sizes`."""
        size, num_points = max(sizes), sum(sizes)
        if min(sizes) == size:
            return cls(tuple(graphs), num_points, size)
        mask = torch.arange(size) < torch.tensor(sizes).unsqueeze(-1)
        rows = mask.flatten().nonzero().squeeze(-1)
        return cls(tuple(graphs), num_points, size, rows.to(device), mask.to(device))

    def pad(self, x: Tensor) -> Tensor:
        """Points [num_points, ...] as a block [graphs, size, ...], padded by zero."""
        shape = (len(self.graphs), self.size, *x.shape[1:])
        if self.rows is None:
            return x.reshape(shape)
        block = x.new_zeros(len(self.graphs) * self.size, *x.shape[1:])
        return block.index_copy(0, self.rows, x).reshape(shape)

    def unpad(self, block: Tensor) -> Tensor:
        """The inverse of `pad`."""
        x = block.flatten(0, 1)
        return x if self.rows is None else x.index_select(0, self.rows)


@dataclass(frozen=True, eq=False)
class PointBatch:
    """How the rows of `x` [N, C] fall into graphs, and which graphs run together.

    Build it with `from_batch` once per forward and hand it to every layer in place
    of the batch vector. Layers take rows in its order: `sort` brings them there and
    `unsort` back, both doing nothing where the order is the batch's own.

    Args:
        sizes: Points of each graph.
        groups: The graphs that share an attention call.
        order: Row of `x` at each row of the layout; `None` if none moves.
        inverse: Row of the layout at each row of `x`; `None` if none moves.
        varlen: Whether the groups run in the fused kernel for ragged sequences.
        device: Where the points lie.
        dtype: What attention runs in.
    """

    sizes: tuple[int, ...]
    groups: tuple[PointGroup, ...]
    order: Tensor | None = None
    inverse: Tensor | None = None
    varlen: bool = False
    device: torch.device = torch.device("cpu")
    dtype: torch.dtype = torch.float32

    @classmethod
    def from_batch(
        cls, x: Tensor, batch: Tensor | None = None, batch_size: int | None = None
    ) -> "PointBatch":
        """Lay out the graphs of a batch.

        Args:
            x: Points, of which the number, the device and the dtype matter.
            batch: Graph of each point, sorted; `None` for a single graph.
            batch_size: Number of graphs; by default the largest in `batch` plus one.
                Name it where trailing graphs may be empty.

        Shapes:
            - `x`: $[N, C]$
            - `batch`: $[N]$, `torch.long`

        Raises:
            ValueError: If `batch` has another length, is unsorted or negative, or
                names a graph past `batch_size`.
        """
        n = x.size(0)
        check_batch(batch, n, batch_size)
        if batch is None:
            one = (PointGroup((0,), n, n),)
            return cls((n,), one, device=x.device, dtype=_attention_dtype(x))
        sizes = torch.bincount(batch, minlength=batch_size or 0).tolist()
        return cls.from_sizes(sizes, x.device, _attention_dtype(x))

    @classmethod
    def from_sizes(
        cls,
        sizes: Sequence[int],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> "PointBatch":
        """Lay out graphs of known sizes, whose points follow one another.

        Args:
            sizes: Points of each graph.
            device: Where the points lie.
            dtype: What attention runs in.

        Raises:
            ValueError: If a size is negative.
        """
        if any(size < 0 for size in sizes):
            raise ValueError(f"sizes holds {min(sizes)}, expected numbers of points")
        device = torch.device(device)
        chosen, varlen = group_graphs(sizes, device, dtype)
        groups = tuple(
            PointGroup.from_sizes(group, [sizes[g] for g in group], device)
            for group in chosen
        )
        build = partial(
            cls, tuple(sizes), groups, varlen=varlen, device=device, dtype=dtype
        )
        sequence = [graph for group in chosen for graph in group]
        if sequence == sorted(sequence):
            return build()
        counts = torch.tensor(sizes)
        starts = counts.cumsum(0) - counts
        moved = torch.tensor(sequence)
        new_starts = counts[moved].cumsum(0) - counts[moved]
        order = torch.arange(sum(sizes)) + torch.repeat_interleave(
            starts[moved] - new_starts, counts[moved]
        )
        return build(order=order.to(device), inverse=order.argsort().to(device))

    @cached_property
    def sequence(self) -> list[int]:
        """The graphs in the order of the layout; empty ones are in no group."""
        return [graph for group in self.groups for graph in group.graphs]

    @cached_property
    def tasks(self) -> Tasks:
        """What the passes over points on a CPU are called for, in that order."""
        return Tasks.from_sizes([self.sizes[graph] for graph in self.sequence])

    @property
    def num_graphs(self) -> int:
        """Graphs in the batch, empty ones included."""
        return len(self.sizes)

    def chunks(self, chunk_size: int) -> list["PointChunk"]:
        """Cut the rows of `x`, in the batch's own order, into chunks.

        Args:
            chunk_size: Rows of a chunk; the last may have fewer.

        Raises:
            ValueError: If `chunk_size` is not positive.
        """
        if chunk_size < 1:
            raise ValueError(f"chunk_size is {chunk_size}, expected a positive number")
        chunks = []
        graph, left = 0, list(self.sizes)
        for start in range(0, sum(self.sizes), chunk_size):
            first, sizes, room = graph, [], chunk_size
            while room > 0 and graph < len(left):
                taken = min(room, left[graph])
                sizes.append(taken)
                left[graph] -= taken
                room -= taken
                if left[graph] == 0:
                    graph += 1
            rows = slice(start, start + chunk_size - room)
            layout = PointBatch.from_sizes(sizes, self.device, self.dtype)
            chunks.append(PointChunk(rows, slice(first, first + len(sizes)), layout))
        return chunks

    def sort(self, x: Tensor) -> Tensor:
        """Rows of `x` [N, ...] in the order of the layout."""
        return x if self.order is None else x.index_select(0, self.order)

    def unsort(self, x: Tensor) -> Tensor:
        """Rows in the order of the layout as rows in the batch's own order."""
        return x if self.inverse is None else x.index_select(0, self.inverse)

    def split(self, x: Tensor) -> list[Tensor]:
        """Rows in the order of the layout as one block [graphs, size, ...] a group."""
        if len(self.groups) == 1:
            return [self.groups[0].pad(x)]
        # One split, not many slices: the gradient of a slice is as large as x.
        parts = x.split([group.num_points for group in self.groups])
        return [group.pad(part) for group, part in zip(self.groups, parts, strict=True)]

    def join(self, blocks: Sequence[Tensor]) -> Tensor:
        """The inverse of `split`."""
        parts = [
            group.unpad(block) for group, block in zip(self.groups, blocks, strict=True)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


class PointChunk(NamedTuple):
    """Consecutive rows of a batch.

    Args:
        rows: Where they stand in the batch.
        graphs: The graphs they belong to, the first and last perhaps in part.
        layout: Their layout, a batch of those graphs.
    """

    rows: slice
    graphs: slice
    layout: PointBatch


def check_batch(
    batch: Tensor | None, num_points: int, batch_size: int | None = None
) -> None:
    """Refuse a batch vector that does not say which points form which graphs.

    Args:
        batch: Graph of each point, sorted; `None` for a single graph.
        num_points: Points $N$ that it numbers.
        batch_size: Number of graphs; by default the largest in `batch` plus one.

    Shapes:
        - `batch`: $[N]$, integers

    Raises:
        ValueError: If `batch` has another length, is no integers, unsorted or negative,
            or names a graph past `batch_size`, or if it is `None` and `batch_size` is
            not one.
    """
    if batch is None:
        if batch_size not in (None, 1):
            raise ValueError(
                f"batch_size is {batch_size} but batch is None, which means one graph: "
                "pass the batch vector"
            )
        return
    if batch.shape != (num_points,):
        raise ValueError(
            f"batch has shape {tuple(batch.shape)}, expected ({num_points},): one "
            "graph number for each point"
        )
    if batch.is_floating_point() or batch.dtype == torch.bool:
        raise ValueError(
            f"batch is {batch.dtype}, expected graph numbers as torch.long"
        )
    if batch_size is not None and batch_size < 0:
        raise ValueError(f"batch_size is {batch_size}, expected a number of graphs")
    if num_points == 0:
        return
    if bool((batch[1:] < batch[:-1]).any()):
        raise ValueError(
            "batch is unsorted: points of one graph must follow one another; sort the "
            "points and batch with `batch.sort(stable=True)`"
        )
    first, last = int(batch[0]), int(batch[-1])
    if first < 0:
        raise ValueError(f"batch holds {first}, expected graph numbers from 0")
    if batch_size is not None and last >= batch_size:
        raise ValueError(
            f"batch names graph {last} but batch_size is {batch_size}: pass at least "
            f"{last + 1}"
        )


def _attention_dtype(x: Tensor) -> torch.dtype:
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype
