"""Edges to each point from all points within a radius."""

import math
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import BaseTransform

from torch_geometric_flare._arguments import check_kind, check_numbers
from torch_geometric_flare.transforms.knn_edges import search_tree
from torch_geometric_flare.transforms.quadrature import quadrature_weights


class RadiusEdges(BaseTransform):
    r"""Set `edge_index` to edges within a radius, and `edge_weight` to source areas.

    This is for layers whose sums over neighbors approximate integrals, such as
    `nn.LocalConv`. Each point is also a neighbor of itself. The weight of an edge is
    the quadrature weight of its source, see `transforms.quadrature_weights`: from the
    sample's `area`, or else its `grid` or `cells`, or else estimated from `pos`, where
    points of a sample with `normal` lie on a surface. These weights make sums correct
    for nonuniform points and at boundaries.

    Edges are sorted by their target, then by their source. No edge connects two samples
    of a batch. An existing `edge_attr` is removed. The search runs on the CPU with
    scipy's k-d tree (`pip install ".[data]"`). Apply this after transforms that draw
    random points, such as `FixedPoints`.

    Args:
        radius: Maximum distance in the unit of `pos`.
        max_neighbors: Maximum number of edges to a point, to bound the memory for dense
            points. If there are more neighbors, this many are drawn at random, the same
            in every call; this is a Monte Carlo estimate of the full sum. (The nearest
            neighbors would amount to a smaller radius.) `None` for no limit.

    Raises:
        ValueError: If an argument is not positive. When applied: if the sample lacks
            `pos` or holds coordinates that are not finite, or its `area`, `grid` or
            `cells` does not fit; or if one of these was added to a batch after
            batching.
        ImportError: When applied, if scipy is not installed.
    """

    def __init__(self, radius: float, max_neighbors: int | None = None) -> None:
        check_numbers(radius=radius)
        if not 0 < radius < math.inf:
            raise ValueError(f"radius must be a positive length, got {radius}")
        if max_neighbors is not None and max_neighbors < 1:
            raise ValueError(f"max_neighbors must be at least 1, got {max_neighbors}")
        self.radius = radius
        self.max_neighbors = max_neighbors

    def forward(self, data: Data) -> Data:
        """Return the sample with edges and their weights."""
        check_kind(Data, "a torch_geometric.data.Data", data=data)
        pos = data.get("pos")
        if not isinstance(pos, Tensor) or pos.dim() != 2:
            raise ValueError(
                f"the sample needs coordinates `pos` of shape [N, D], and has "
                f"{sorted(data.keys())}"
            )
        if not bool(pos.isfinite().all()):
            raise ValueError("pos has non-finite values")
        samples = _samples(data)
        edges, weights, start = [], [], 0
        for sample in samples:
            edge_index = self._edges(sample.pos.detach())
            weight = quadrature_weights(sample.pos, **_measures(sample))
            edges.append(start + edge_index)
            weights.append(weight[edge_index[0]])
            start += sample.num_nodes
        data.edge_index = torch.cat(edges, dim=1)
        data.edge_weight = torch.cat(weights)
        data.edge_attr = None
        return data

    def _edges(self, pos: Tensor) -> Tensor:
        size = pos.size(0)
        if size == 0:
            return torch.empty(2, 0, dtype=torch.long, device=pos.device)
        tree = search_tree(pos)
        pairs = tree.query_pairs(self.radius, output_type="ndarray")
        near = torch.from_numpy(pairs).long().t()
        loops = torch.arange(size, device=near.device).expand(2, -1)
        edges = torch.cat([near, near.flip(0), loops], dim=1)
        # Sort by target, then by source.
        edges = edges[:, (edges[1] * size + edges[0]).argsort()]
        if self.max_neighbors is not None:
            edges = _draw(edges, self.max_neighbors, size)
        return edges.to(pos.device)

    def __repr__(self) -> str:
        limit = (
            ""
            if self.max_neighbors is None
            else f", max_neighbors={self.max_neighbors}"
        )
        return f"{type(self).__name__}(radius={self.radius}{limit})"


def _samples(data: Data) -> list[Data]:
    """Return the samples of a batch."""
    if not isinstance(data, Batch):
        return [data]
    samples: list[Data] = data.to_data_list()
    for name in ("area", "grid", "cells", "normal"):
        # PyTorch Geometric drops attributes that were added after batching.
        if name in data and samples and name not in samples[0]:
            raise ValueError(
                f"{name} was added to a batch and cannot be split by sample: add it to "
                "each sample before batching"
            )
    return samples


def _measures(data: Data) -> dict[str, Any]:
    """Return the arguments of `quadrature_weights` from a sample."""
    grid = data.get("grid")
    if grid is not None and math.prod(grid) != data.num_nodes:
        raise ValueError(
            f"grid is {tuple(grid)}, expected (H, W) with H * W = {data.num_nodes} "
            "points"
        )
    return {
        "area": data.get("area"),
        "grid": grid,
        "cells": data.get("cells"),
        "surface": "normal" in data,
    }


def _draw(edges: Tensor, most: int, size: int) -> Tensor:
    """Keep at most `most` random edges per point, the same in every call."""
    generator = torch.Generator("cpu").manual_seed(0)
    order = torch.randperm(edges.size(1), generator=generator, device="cpu")
    order = order[edges[1, order].argsort(stable=True)]
    counts = edges[1].bincount(minlength=size)
    first = (counts.cumsum(0) - counts).repeat_interleave(counts)
    rank = torch.arange(edges.size(1), device=edges.device) - first
    return edges[:, order[rank < most].sort().values]
