"""Samples whose cells name points."""

from typing import Any

from torch_geometric.data import Data


class MeshData(Data):
    r"""A `Data` whose `cells` stay right in a batch.

    When samples are put into a batch, PyTorch Geometric shifts `edge_index` and `face`
    to the points of their own sample, but knows nothing of `cells` [K, V], the points
    of each cell: those of all samples would name points of the first one. This class
    shifts them too. In everything else it is a `Data`.

    All samples of a batch need the same number of corners $V$.
    """

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        """Return how much to add to the values of a sample for those after it."""
        if key == "cells":
            return self.num_nodes
        return super().__inc__(key, value, *args, **kwargs)
