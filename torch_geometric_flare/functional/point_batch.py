"""The layout of a ragged batch of point sets, computed once per forward."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from torch_geometric_flare._arguments import brief, check_integers
from torch_geometric_flare.functional.checks import (
    cast_weight,
    check_condition_rows,
    check_weight,
)
from torch_geometric_flare.functional.dense_batch import DenseBatch, pack_graphs
from torch_geometric_flare.functional.state import state_dtype
from torch_geometric_flare.functional.torch_internals import (
    has_autocast,
    is_jit_traced,
)
from torch_geometric_flare.kernels.tasks import RowTasks

# Number of empty graphs that a batch vector may imply, plus 1000 per point.
_MOST_EMPTY = 1_000_000


@dataclass(frozen=True, eq=False)
class PointBatch:
    """The assignment of the rows of `x` [N, C] to graphs and of graphs to calls.

    Build it with `from_batch` or `from_sizes` once per forward and pass it to every
    layer instead of the batch vector. Layers expect rows in its order: `sort` converts
    rows from batch order and `unsort` back. Both are no-ops if the orders are equal.

    Args:
        sizes: Number of points of each graph.
        packed: Graphs that share a dense attention call. Contains each non-empty graph
            exactly once.
        order: Row of `x` at each row of the layout; `None` if no row moves.
        inverse: Row of the layout at each row of `x`; `None` if no row moves.
        varlen: Whether graphs run in the fused kernel for ragged sequences.
        device: Device of the points.
        dtype: Dtype of attention.
        weight: Weight of each point, such as its share of a surface, in the order of
            the layout; `None` for equal weights.
        u: Conditions of each graph, such as a speed, $[B, G]$; `None` without
            conditions.

    Raises:
        ValueError: If a size is not a nonnegative integer, `packed` does not hold each
            non-empty graph exactly once, or `order` has another length.
    """

    sizes: tuple[int, ...]
    packed: tuple[tuple[int, ...], ...]
    order: Tensor | None = None
    inverse: Tensor | None = None
    varlen: bool = False
    device: torch.device = torch.device("cpu")
    dtype: torch.dtype = torch.float32
    weight: Tensor | None = None
    u: Tensor | None = None

    def __post_init__(self) -> None:
        # Kernels compute addresses from these sizes, so validate here.
        _check_sizes(self.sizes)
        filled = []
        for graph, size in enumerate(self.sizes):
            if size > 0:
                filled.append(graph)
        listed = sorted(sum(self.packed, ()))
        if listed != filled:
            raise ValueError(
                f"packed holds the graphs {listed}, expected each non-empty graph "
                f"exactly once: {filled}"
            )
        for name, rows in (("order", self.order), ("inverse", self.inverse)):
            if rows is not None and rows.shape != (sum(self.sizes),):
                raise ValueError(
                    f"{name} has shape {tuple(rows.shape)}, expected one row index "
                    f"for each of the {sum(self.sizes)} points"
                )

    @classmethod
    def from_batch(
        cls,
        x: Tensor,
        batch: Tensor | None = None,
        batch_size: int | None = None,
        weight: Tensor | None = None,
        u: Tensor | None = None,
    ) -> "PointBatch":
        """Build the layout of a batch vector.

        Args:
            x: Points; only their number, device and dtype matter.
            batch: Graph index of each point, sorted; `None` for a single graph.
            batch_size: Number of graphs. Default: the largest index in `batch` plus
                one. Pass it if trailing graphs may be empty.
            weight: Weight of each point, see `weighted`.
            u: Conditions of each graph, see `conditioned`.

        Shapes:
            - `x`: $[N, C]$
            - `batch`: $[N]$, `torch.long`
            - `weight`: $[N]$
            - `u`: $[B, G]$

        Raises:
            ValueError: If `batch` has another length, is unsorted or negative, or
                holds an index that is not below `batch_size`, or if `weight` or `u` is
                invalid (see `weighted` and `conditioned`).
            TypeError: Under `torch.jit.trace`, or if an argument has the wrong type.
        """
        if is_jit_traced():
            raise TypeError(
                "torch.jit.trace would fix the sizes of these graphs: use "
                "torch.export.export, or trace padded graphs [B, N, C] with a mask"
            )
        if not isinstance(x, Tensor) or x.dim() == 0:
            raise TypeError(f"x is {brief(x)}, expected a torch.Tensor of shape [N, C]")
        check_batch(batch, x.size(0), batch_size)
        kind, dtype = x.device.type, x.dtype
        has_type = kind == "cpu" or has_autocast(kind)
        if has_type and torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)
        if batch is None:
            layout = cls.from_sizes((x.size(0),), x.device, dtype)
        else:
            sizes = torch.bincount(batch, minlength=batch_size or 0).tolist()
            layout = cls.from_sizes(sizes, x.device, dtype)
        if weight is not None:
            layout = layout.weighted(weight)
        return layout if u is None else layout.conditioned(u)

    @classmethod
    def from_sizes(
        cls,
        sizes: Sequence[int],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> "PointBatch":
        """Build the layout of consecutive graphs from their sizes.

        Args:
            sizes: Number of points of each graph.
            device: Device of the points.
            dtype: Dtype of attention.

        Raises:
            ValueError: If a size is negative or not an integer.
        """
        if not isinstance(sizes, Iterable):
            raise TypeError(f"sizes is {brief(sizes)}, expected numbers of points")
        sizes, device = tuple(sizes), torch.device(device)
        _check_sizes(sizes)
        if sizes and min(sizes) == max(sizes):
            together = (tuple(range(len(sizes))),) if sizes[0] > 0 else ()
            return cls(sizes, together, device=device, dtype=dtype)
        packed, varlen = pack_graphs(sizes, device, dtype)
        sequence = sum(packed, ())
        if sequence == tuple(sorted(sequence)):
            return cls(sizes, packed, None, None, varlen, device, dtype)
        order = _row_order(sizes, sequence)
        inverse = order.argsort().to(device)
        return cls(sizes, packed, order.to(device), inverse, varlen, device, dtype)

    def weighted(self, weight: Tensor) -> "PointBatch":
        """Return this layout with weighted points.

        Attention encodes a point of weight two like two points at the same position.
        The weights of a graph may have any unit, because a common factor cancels.

        Args:
            weight: Weight of each row of `x`, such as its share of a surface.

        Shapes:
            - `weight`: $[N]$

        Raises:
            TypeError: If it is not a floating-point tensor.
            ValueError: If it has another shape, is on another device, holds a negative
                or non-finite number, or overflows or vanishes in the dtype of the
                states.
        """
        check_weight(weight, (self.num_points,), self.device)
        cast = cast_weight(weight, state_dtype(self.dtype))
        return replace(self, weight=self.sort(cast))

    def conditioned(self, u: Tensor) -> "PointBatch":
        """Return this layout with conditions of its graphs.

        Args:
            u: One row per graph, such as the speed and angle of a flow.

        Shapes:
            - `u`: $[B, G]$

        Raises:
            TypeError: If it is not a floating-point tensor.
            ValueError: If it has another shape or is on another device.
        """
        check_condition_rows(u, self.num_graphs, self.device)
        return replace(self, u=u)

    @property
    def sequence(self) -> list[int]:
        """The non-empty graphs in the order of the layout."""
        return list(sum(self.packed, ()))

    @property
    def dense_batches(self) -> tuple[DenseBatch, ...]:
        """The dense batches of the packed graphs."""
        # torch.compile cannot trace the lock of a cached property.
        if torch.compiler.is_compiling():
            return self._build_dense_batches()
        return self._dense_batches

    @cached_property
    def _dense_batches(self) -> tuple[DenseBatch, ...]:
        return self._build_dense_batches()

    def _build_dense_batches(self) -> tuple[DenseBatch, ...]:
        return tuple(
            DenseBatch.from_sizes(graphs, self.sizes, self.device)
            for graphs in self.packed
        )

    @cached_property
    def tasks(self) -> RowTasks:
        """The rows in the order of the layout, split into tasks for CPU kernels."""
        sizes = []
        for graphs in self.packed:
            for graph in graphs:
                sizes.append(self.sizes[graph])
        return RowTasks.from_sizes(sizes)

    @property
    def num_graphs(self) -> int:
        """Number of graphs in the batch, including empty graphs."""
        return len(self.sizes)

    @property
    def num_points(self) -> int:
        """Total number of points."""
        return sum(self.sizes)

    def chunks(self, chunk_size: int) -> list["PointChunk"]:
        """Split the rows of `x`, in batch order, into chunks.

        Args:
            chunk_size: Number of rows per chunk; the last may have fewer.

        Raises:
            ValueError: If `chunk_size` is not positive.
        """
        if chunk_size < 1:
            raise ValueError(f"chunk_size is {chunk_size}, expected a positive number")
        # torch.compile cannot trace the lock of a cached property.
        if torch.compiler.is_compiling():
            return self._build_chunks(chunk_size)
        if chunk_size not in self._chunks_by_size:
            self._chunks_by_size[chunk_size] = self._build_chunks(chunk_size)
        return self._chunks_by_size[chunk_size]

    @cached_property
    def _chunks_by_size(self) -> dict[int, list["PointChunk"]]:
        """Cache of the chunks by size, because every layer uses them twice."""
        return {}

    def _build_chunks(self, chunk_size: int) -> list["PointChunk"]:
        chunks = []
        layouts: dict[tuple[int | None, ...], PointBatch] = {}
        weight = None if self.weight is None else self.unsort(self.weight)
        graph, left = 0, list(self.sizes)
        for start in range(0, self.num_points, chunk_size):
            first, sizes, room = graph, [], chunk_size
            while room > 0 and graph < len(left):
                taken = min(room, left[graph])
                sizes.append(taken)
                left[graph] -= taken
                room -= taken
                if left[graph] == 0:
                    graph += 1
            rows = slice(start, start + chunk_size - room)
            graphs = slice(first, first + len(sizes))
            key = (None if self.u is None else first, *sizes)
            layout = layouts.get(key)
            if layout is None:
                layout = PointBatch.from_sizes(sizes, self.device, self.dtype)
                if self.u is not None:
                    layout = replace(layout, u=self.u[graphs])
                layouts[key] = layout
            if weight is not None:
                layout = replace(layout, weight=layout.sort(weight[rows]))
            chunks.append(PointChunk(rows, graphs, layout))
        return chunks

    def sort(self, x: Tensor) -> Tensor:
        """Reorder rows of `x` [N, ...] from batch order to the order of the layout."""
        return x if self.order is None else x.index_select(0, self.order)

    def unsort(self, x: Tensor) -> Tensor:
        """Reorder rows from the order of the layout to batch order."""
        return x if self.inverse is None else x.index_select(0, self.inverse)

    def expand(self, rows: Tensor) -> Tensor:
        """Expand one row per graph to the points, in the order of the layout.

        Args:
            rows: One row per graph.

        Shapes:
            - `rows`: $[B, C]$

        Returns:
            $[N, C]$, or $[1, C]$ for broadcasting if one graph has all points.
        """
        sequence = self.sequence
        if len(sequence) == 1:
            return rows[sequence[0] : sequence[0] + 1]
        if sequence != list(range(len(self.sizes))):
            moved = torch.tensor(sequence, dtype=torch.long, device=self.device)
            rows = rows.index_select(0, moved)
        counts = torch.tensor([self.sizes[g] for g in sequence], dtype=torch.long)
        counts = counts.to(self.device)
        return rows.repeat_interleave(counts, dim=0, output_size=self.num_points)

    def split(self, x: Tensor) -> list[Tensor]:
        """Split rows in the order of the layout into dense batches [B, n, ...]."""
        if len(self.dense_batches) == 1:
            return [self.dense_batches[0].pad(x)]
        # One split instead of many slices: the gradient of each slice is as large as x.
        parts = x.split([dense.num_points for dense in self.dense_batches])
        pairs = zip(self.dense_batches, parts, strict=True)
        return [dense.pad(part) for dense, part in pairs]

    def join(self, blocks: Sequence[Tensor]) -> Tensor:
        """Join dense batches into rows; the inverse of `split`."""
        pairs = zip(self.dense_batches, blocks, strict=True)
        parts = [dense.unpad(block) for dense, block in pairs]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


class PointChunk(NamedTuple):
    """Consecutive rows of a batch.

    Args:
        rows: Their positions in the batch.
        graphs: Their graphs; the first and the last may be partial.
        layout: The layout of these rows and graphs.
    """

    rows: slice
    graphs: slice
    layout: PointBatch


def check_layout(layout: object) -> None:
    """Raise `TypeError` unless `layout` is a `PointBatch`."""
    if not isinstance(layout, PointBatch):
        raise TypeError(
            f"layout is {brief(layout)}, expected a PointBatch: "
            "use PointBatch.from_batch(k, batch)"
        )


def check_batch(
    batch: Tensor | None, num_points: int, batch_size: int | None = None
) -> None:
    """Raise unless a batch vector assigns the points to graphs, in order.

    Args:
        batch: Graph index of each point, sorted; `None` for a single graph.
        num_points: Expected number of points $N$.
        batch_size: Number of graphs. Default: the largest index in `batch` plus one.

    Shapes:
        - `batch`: $[N]$, integers

    Raises:
        ValueError: If `batch` has another length, is non-integer, unsorted or
            negative, or holds an index that is not below `batch_size`, or if it is
            `None` and `batch_size` is not one.
    """
    if batch_size is not None and type(batch_size) is not int:
        check_integers(0, batch_size=batch_size)
    # N is a SymInt if `torch.export` treats it as dynamic.
    if isinstance(num_points, bool) or not isinstance(num_points, (int, torch.SymInt)):
        check_integers(0, num_points=num_points)
    if batch is None:
        if batch_size not in (None, 1):
            raise ValueError(
                f"batch_size is {batch_size} but batch is None, which means one graph: "
                "pass the batch vector"
            )
        return
    if not isinstance(batch, Tensor):
        raise TypeError(
            f"batch is {brief(batch)}, expected the graph index of each point as a "
            "torch.long tensor, or None for one graph"
        )
    if batch.shape != (num_points,):
        raise ValueError(
            f"batch has shape {tuple(batch.shape)}, expected ({num_points},): one "
            "graph index per point"
        )
    if batch.is_floating_point() or batch.dtype == torch.bool:
        raise ValueError(
            f"batch is {batch.dtype}, expected graph indices as torch.long"
        )
    if batch_size is not None and batch_size < 0:
        raise ValueError(f"batch_size is {batch_size}, expected a number of graphs")
    if num_points == 0:
        return
    if bool((batch[1:] < batch[:-1]).any()):
        raise ValueError(
            "batch is unsorted: points of one graph must be consecutive; sort the "
            "points and batch with `batch.sort(stable=True)`"
        )
    first, last = int(batch[0]), int(batch[-1])
    if first < 0:
        raise ValueError(f"batch holds {first}, expected graph indices from 0")
    if batch_size is None and last > _MOST_EMPTY + 1000 * num_points:
        raise ValueError(
            f"batch names graph {last} for {num_points} points: number the graphs from "
            "0, or pass batch_size if this many are empty"
        )
    if batch_size is not None and last >= batch_size:
        raise ValueError(
            f"batch names graph {last} but batch_size is {batch_size}: pass at least "
            f"{last + 1}"
        )


def _check_sizes(sizes: Sequence[int]) -> None:
    for size in sizes:
        # N is a SymInt if `torch.export` treats it as dynamic.
        whole = isinstance(size, (int, torch.SymInt)) and not isinstance(size, bool)
        if not whole or size < 0:
            raise ValueError(
                f"sizes holds {size!r}, expected numbers of points as integers from 0"
            )


def _row_order(sizes: Sequence[int], sequence: Sequence[int]) -> Tensor:
    """Return the row indices of consecutive graphs after reordering them."""
    counts = torch.tensor(sizes, dtype=torch.long, device="cpu")
    starts = counts.cumsum(0) - counts
    moved = torch.tensor(sequence, dtype=torch.long, device="cpu")
    lengths = counts[moved]
    new_starts = lengths.cumsum(0) - lengths
    shifts = torch.repeat_interleave(starts[moved] - new_starts, lengths)
    return torch.arange(int(lengths.sum()), device="cpu") + shifts
