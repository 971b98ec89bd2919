"""Whether the points of two samples are the same points."""

import torch
from torch_geometric.data import Data


def points_correspond(first: Data, second: Data) -> bool:
    """Tell whether point i of one sample is point i of the other.

    They correspond on structured grids of one shape, in meshes of the same `cells`
    (one mesh, moved), and at the same coordinates `pos`.

    Args:
        first: A sample.
        second: Another.
    """
    if first.num_nodes != second.num_nodes:
        return False
    grids = first.get("grid"), second.get("grid")
    if grids[0] is not None and grids[1] is not None:
        return tuple(grids[0]) == tuple(grids[1])
    return any(_equal(first.get(name), second.get(name)) for name in ("cells", "pos"))


def _equal(first: object, second: object) -> bool:
    if not isinstance(first, torch.Tensor) or not isinstance(second, torch.Tensor):
        return False
    return torch.equal(first.cpu(), second.cpu())
