"""Edges to each point from all points within a length."""

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
    r"""Make `edge_index` from the points within a radius, and `edge_weight` their area.

    For layers whose sums over neighbours stand for integrals, such as `nn.LocalConv`.
    Each point is among its own neighbours. The weight of an edge is what its source
    stands for, see `transforms.quadrature_weights`: of the sample's `area`, else of its
    `grid` or `cells`, else an estimate from `pos`; points of a sample with `normal` lie
    on a surface. Weights keep sums right where points crowd and at boundaries.

    Edges are sorted by their target, then by their source. No edge joins two samples of
    a batch. An earlier `edge_attr` is removed with the edges it belonged to. The search
    runs on the CPU by the k-d tree of scipy
    (`pip install ".[data]"`). Where points are drawn at random, as
    by `FixedPoints`, apply it afterwards.

    Args:
        radius: Largest distance, in the unit of `pos`.
        max_neighbors: Largest number of edges to a point, to bound the memory where
            points crowd. Of more neighbours so many are drawn at random, the same ones
            in every call: a Monte Carlo estimate of the sum over all. (The nearest ones
            would be a smaller radius.) `None` for no limit.

    Raises:
        ValueError: If an argument is not positive. When applied: if the sample lacks
            `pos` or holds coordinates that are not finite, or its `area`, `grid` or
            `cells` does not fit; or if a batch was given one of these only after
            batching.
        ImportError: When applied, without scipy.
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
            raise ValueError("pos has values that are not finite")
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
        itself = torch.arange(size, device=near.device).expand(2, -1)
        edges = torch.cat([near, near.flip(0), itself], dim=1)
        # By target, then by source.
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
        # PyTorch Geometric drops from the samples what came after batching.
        if name in data and samples and name not in samples[0]:
            raise ValueError(
                f"{name} was given to a batch, and cannot be told apart by sample: "
                f"give it to each sample before batching"
            )
    return samples


def _measures(data: Data) -> dict[str, Any]:
    """Return what a sample tells of the areas of its points."""
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
    """Keep at most so many edges to each point, the same ones in every call."""
    generator = torch.Generator("cpu").manual_seed(0)
    order = torch.randperm(edges.size(1), generator=generator, device="cpu")
    order = order[edges[1, order].argsort(stable=True)]
    counts = edges[1].bincount(minlength=size)
    first = (counts.cumsum(0) - counts).repeat_interleave(counts)
    rank = torch.arange(edges.size(1), device=edges.device) - first
    return edges[:, order[rank < most].sort().values]
