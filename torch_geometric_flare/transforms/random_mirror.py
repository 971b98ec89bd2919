"""Random mirror images of samples as data augmentation."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform


class RandomMirror(BaseTransform):
    r"""Mirror a sample at a plane across one axis with a probability.

    Use it for scalar targets and physics that are invariant under the mirroring, such
    as flow along the plane. `pos` and the leading coordinates in `x` become $2 c - x$
    along `axis`, where $c$ is the position of the plane. On a `grid`, the order of
    points along its first axis is also reversed, so that the direction around the body
    is kept on a C-grid. Conditions `u` in `odd`, such as an angle of attack, change
    their sign. PyG's `RandomFlip` changes only `pos`. Cells and edges of a mesh keep
    their nodes, so mirrored cells are inverted.

    Args:
        axis: Index of the mirrored coordinate.
        p: Probability of mirroring.
        position: Position of the plane on the axis, in the unit of `pos`.
        x_position: The same in the unit of `x`; `None` if it equals that of `pos`.
        odd: Columns of `u` that change their sign.

    Raises:
        ValueError: If `p` is not a probability; when applied: if `pos` has no such
            axis, `grid` does not fit the points, or a sample with a grid has edges or
            cells.
    """

    def __init__(
        self,
        axis: int,
        p: float = 0.5,
        position: float = 0.0,
        x_position: float | None = None,
        odd: Sequence[int] = (),
    ) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"p must be between 0 and 1, got {p}")
        self.axis = axis
        self.p = p
        self.position = position
        self.x_position = position if x_position is None else x_position
        self.odd = list(odd)

    def forward(self, data: Data) -> Data:
        """Return the sample or its mirror image."""
        size, grid = data.num_nodes, data.get("grid")
        if data.pos is None or not 0 <= self.axis < data.pos.size(1):
            shape = None if data.pos is None else tuple(data.pos.shape)
            raise ValueError(f"axis is {self.axis}, but pos has shape {shape}")
        if grid is not None:
            if len(grid) != 2 or grid[0] * grid[1] != size:
                raise ValueError(
                    f"the sample has grid={grid!r} and {size} points: set data.grid = "
                    "(H, W) with H * W points"
                )
            for name in ("cells", "edge_index"):
                if name in data:
                    raise ValueError(
                        f"the sample has `{name}`, which refers to points that would "
                        "move: add it afterwards"
                    )
        if torch.rand(()) >= self.p:
            return data
        if grid is not None:
            # List the names first, because the sample counts its points by these
            # fields.
            names = [n for n in data.node_attrs() if isinstance(data[n], Tensor)]
            for name in names:
                data[name] = data[name].unflatten(0, tuple(grid)).flip(0).flatten(0, 1)
            # Set it again to mark it as valid for the new order of points.
            data.grid = (grid[0], grid[1])
        for name, position in (("pos", self.position), ("x", self.x_position)):
            if name in data:
                data[name] = data[name].clone()
                data[name][:, self.axis] = 2 * position - data[name][:, self.axis]
        if self.odd and "u" in data:
            data.u = data.u.clone()
            data.u[:, self.odd] *= -1
        return data

    def __repr__(self) -> str:
        odd = f", odd={self.odd}" if self.odd else ""
        return f"{type(self).__name__}({self.axis}, p={self.p}{odd})"
