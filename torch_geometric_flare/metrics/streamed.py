"""The relative error of fields that are processed in chunks."""

import torch
from torch import Tensor

from torch_geometric_flare.metrics.graph_sum import graph_sum
from torch_geometric_flare.metrics.squared_error import ratio_of_norms, squared_error


class RelativeL2:
    r"""Relative $L_2$ errors of graphs that are processed in chunks of points.

    The sums of squares of the error and of the target are accumulated in double
    precision and divided once at the end. The result equals `relative_l2` (with areas,
    `area_weighted_relative_l2`) of all points at once. The average of the errors of
    chunks would differ.

    >>> pred, target = torch.rand(1000, 1), torch.rand(1000, 1)
    >>> error = RelativeL2()
    >>> for rows in torch.arange(1000).split(300):
    ...     error.update(pred[rows], target[rows])
    >>> error.compute().shape
    torch.Size([1])

    Args:
        num_graphs: Number of graphs $B$.

    Raises:
        ValueError: If `num_graphs` is below one.
    """

    def __init__(self, num_graphs: int = 1) -> None:
        if num_graphs < 1:
            raise ValueError(f"num_graphs must be at least 1, got {num_graphs}")
        self.num_graphs = num_graphs
        self._sums: Tensor | None = None  # [B, 2]: error and target
        self._weighted: bool | None = None  # by areas; None before the first chunk

    @torch.no_grad()
    def update(
        self,
        pred: Tensor,
        target: Tensor,
        batch: Tensor | None = None,
        area: Tensor | None = None,
    ) -> None:
        """Add a chunk of points.

        Args:
            pred: Predicted field at these points.
            target: True field, of the same shape.
            batch: Graph of each point, sorted within the chunk; `None` for a single
                graph.
            area: Area of each point, in all chunks or in none.

        Shapes:
            - `pred`, `target`: $[N, C]$ or $[N]$
            - `batch`: $[N]$, `torch.long`
            - `area`: $[N]$ or $[N, 1]$

        Raises:
            ValueError: If a shape does not fit, an area is negative or non-finite, only
                some chunks have areas, or `batch` holds an index that is not below
                `num_graphs` or is missing for several graphs.
        """
        squares = torch.stack(
            [square.sum(1) for square in squared_error(pred, target, area)], dim=1
        )
        self._add(graph_sum(squares, batch, self.num_graphs), area is not None)

    def merge(self, other: "RelativeL2") -> None:
        """Add the sums of another instance over other points of the same graphs.

        Args:
            other: The other instance. It is not modified.

        Raises:
            ValueError: If it has another number of graphs, or only one of both has
                areas.
        """
        if other.num_graphs != self.num_graphs:
            raise ValueError(
                f"other has {other.num_graphs} graphs, expected {self.num_graphs}"
            )
        if other._sums is not None and other._weighted is not None:
            self._add(other._sums, other._weighted)

    def compute(self) -> Tensor:
        """Return the error of each graph over all points so far, $[B]$.

        Returns:
            The errors in double precision, on the device of the first chunk.

        Raises:
            ValueError: If a graph has no points yet or a target of zeros.
        """
        sums = torch.zeros(self.num_graphs, 2) if self._sums is None else self._sums
        return ratio_of_norms(*sums.unbind(1))

    def _add(self, sums: Tensor, weighted: bool) -> None:
        if self._weighted not in (None, weighted):
            raise ValueError(
                "some chunks have areas and others do not: pass area for all chunks "
                "or for none"
            )
        self._weighted = weighted
        # Not in place, because `merge` may share the sums of another instance.
        self._sums = sums if self._sums is None else self._sums + sums.to(self._sums)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_graphs={self.num_graphs})"
