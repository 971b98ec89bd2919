"""Edges from the nearest neighbors of each point, without torch-cluster."""

from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform
from torch_geometric.utils import to_undirected

from torch_geometric_flare._arguments import check_integers, check_kind
from torch_geometric_flare._extras import MissingExtra, install_command
from torch_geometric_flare.functional import check_batch


class KNNEdges(BaseTransform):
    r"""Set `edge_index` to edges from the $k$ nearest neighbors of each point to it.

    These are the edges of `KNNGraph` of PyTorch Geometric, which needs torch-cluster.
    This class needs only scipy (`pip install ".[data]"`), whose k-d tree runs on the
    CPU. Edges are sorted by their target and then by distance (with `force_undirected`,
    by their source and then by their target). Ties between neighbors at equal distance
    are broken deterministically. In a graph of $N \le k$ points, each point has $N - 1$
    neighbors. No edge connects two samples of a batch. There are no self-loops, but
    points at the same position can be neighbors. An existing `edge_attr` is removed.

    Args:
        k: Number of neighbors.
        force_undirected: Whether to add the reverse of every edge, so that a point may
            have more than `k` neighbors.

    Raises:
        ValueError: If `k` is below one. When applied: if the sample lacks `pos` or
            holds coordinates that are not finite, or its `batch` is not sorted.
        ImportError: When applied, if scipy is not installed.
    """

    def __init__(self, k: int = 6, force_undirected: bool = False) -> None:
        check_integers(1, k=k)
        self.k = k
        self.force_undirected = force_undirected

    def forward(self, data: Data) -> Data:
        """Return the sample with edges from nearest neighbors."""
        check_kind(Data, "a torch_geometric.data.Data", data=data)
        pos = data.get("pos")
        if not isinstance(pos, Tensor) or pos.dim() != 2:
            raise ValueError(
                f"the sample needs coordinates `pos` of shape [N, D], and has "
                f"{sorted(data.keys())}"
            )
        if not bool(pos.isfinite().all()):
            raise ValueError("pos has non-finite values")
        batch = data.get("batch")
        check_batch(batch, pos.size(0))
        sizes = [pos.size(0)] if batch is None else batch.bincount().tolist()
        start, parts = 0, []
        for points in pos.detach().cpu().split(sizes):
            parts.append(start + _nearest(points, self.k))
            start += points.size(0)
        edge_index = torch.cat(parts, dim=1).to(pos.device)
        if self.force_undirected:
            edge_index = to_undirected(edge_index, num_nodes=data.num_nodes)
        data.edge_index = edge_index
        data.edge_attr = None
        return data

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(k={self.k}, "
            f"force_undirected={self.force_undirected})"
        )


def search_tree(pos: Tensor) -> Any:
    """Return scipy's k-d tree of points.

    Args:
        pos: Coordinates on any device.

    Shapes:
        - `pos`: $[N, D]$

    Raises:
        ImportError: If scipy is not installed.
    """
    try:
        from scipy.spatial import cKDTree
    except ImportError as error:
        raise MissingExtra(
            f"nearest neighbors need scipy: {install_command('data')}"
        ) from error
    return cKDTree(pos.detach().double().cpu().numpy())


def _nearest(pos: Tensor, k: int) -> Tensor:
    """Return the edges [2, N * min(k, N - 1)] of one graph."""
    size = pos.size(0)
    k = min(k, size - 1)
    if k < 1:
        return torch.empty(2, 0, dtype=torch.long, device="cpu")
    _, neighbors = search_tree(pos).query(pos.double().numpy(), k + 1)
    neighbors = torch.from_numpy(neighbors)  # [N, k + 1], by distance
    target = torch.arange(size, device=neighbors.device).unsqueeze(1)
    is_self = neighbors == target
    # With more than k points at one position, a point may be missing from its result.
    is_self[:, -1] |= ~is_self.any(1)
    return torch.stack([neighbors[~is_self], target.expand(-1, k).flatten()])
