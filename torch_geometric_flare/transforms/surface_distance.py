"""The distance from each mesh node to the free surface."""

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform

from torch_geometric_flare.fields import Field, Fields
from torch_geometric_flare.transforms.features import feature_key
from torch_geometric_flare.transforms.model_input import set_features

# Cosine of the maximum angle between an edge and the axis that it is parallel to.
_PARALLEL = 0.99


class SurfaceDistance(BaseTransform):
    r"""Add the distance to the free surface along each axis to the input of each node.

    The feature `surface_distance` has $2 D$ channels: the length of the path along
    edges from a node in the directions $-x, +x, -y, +y, \dots$ to the last node, as
    $\ln(1 + \text{length})$ in the unit of `pos`. It distinguishes overhangs, walls and
    columns, which a network cannot infer from random points of a part. Edges that are
    not parallel to an axis are ignored, so the feature is intended for meshes of
    bricks.

    Raises:
        ValueError: When applied: if the sample has no `edge_index`.
    """

    def fields(self, dimension: int) -> Fields:
        """Return the added feature for nodes of a number of coordinates."""
        return (Field("surface_distance", 2 * dimension),)

    def forward(self, data: Data) -> Data:
        """Return the sample with the feature, also appended to the columns of `x`."""
        edges, pos = data.get("edge_index"), data.pos
        if edges is None:
            raise ValueError(
                f"the sample has no `edge_index`, only {sorted(data.keys())}: add it, "
                "for example with transforms.CellsToEdge"
            )
        # Use both directions of each edge; duplicates do not change the distance.
        edges = torch.cat([edges, edges.flip(0)], dim=1)
        step = pos[edges[1]] - pos[edges[0]]
        length = step.norm(dim=1)
        columns = []
        for axis in range(pos.size(1)):
            for sign in (-1, 1):
                along = sign * step[:, axis] > _PARALLEL * length
                columns.append(_walk(edges[:, along], length[along], pos.size(0)))
        data[feature_key("surface_distance")] = torch.stack(columns, dim=1).log1p()
        return set_features(data, self.fields(pos.size(1)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def _walk(edges: Tensor, length: Tensor, num_nodes: int) -> Tensor:
    """Return the longest path from each node along edges of one direction."""
    distance = length.new_zeros(num_nodes)
    source, target = edges
    while source.numel():
        reached = length + distance[target]
        farther = distance.scatter_reduce(0, source, reached, "amax")
        if torch.equal(farther, distance):
            break
        distance = farther
    return distance
