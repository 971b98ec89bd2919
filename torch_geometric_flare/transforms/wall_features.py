"""Wall features of points on a body-fitted grid."""

import torch
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform

from torch_geometric_flare.fields import Field, Fields
from torch_geometric_flare.transforms.features import feature_key
from torch_geometric_flare.transforms.model_input import set_features


class WallFeatures(BaseTransform):
    r"""Add the wall point and the offset from it to the input of each grid point.

    On a body-fitted grid $(H, W)$, the first column is the wall, and the points on a
    grid line from the wall share their first index. Each point gets two features of $D$
    channels:

    - `wall_point`: coordinates of the wall point of its line, clamped to `reach`,
      because on a C-grid the first column continues along the wake;
    - `wall_offset`: $\operatorname{asinh}(d / \ell)$ of its offset $d$ from this point,
      which is linear within the `length` $\ell$ and logarithmic beyond.

    A change of the wall by hundredths of a chord then changes the input of all points
    on its lines. With coordinates only, it would be hidden by a far field of 40 chords.

    Args:
        length: Length $\ell$ in the unit of `pos`.
        reach: Maximum magnitude of a coordinate of `wall_point` in the same unit.

    Raises:
        ValueError: When applied: if the sample has no `grid` that fits its points.
    """

    def __init__(self, length: float, reach: float) -> None:
        self.length = length
        self.reach = reach

    def fields(self, dimension: int) -> Fields:
        """Return the added features for points of a number of coordinates."""
        return Field("wall_point", dimension), Field("wall_offset", dimension)

    def forward(self, data: Data) -> Data:
        """Return the sample with the features, also appended to the columns of `x`."""
        grid, pos = data.get("grid"), data.pos
        if grid is None or len(grid) != 2 or grid[0] * grid[1] != pos.size(0):
            raise ValueError(
                f"the sample has grid={grid!r} and {pos.size(0)} points: set data.grid "
                "= (H, W) with H * W points"
            )
        lines = pos.view(*grid, -1)
        wall = lines[:, :1].expand_as(lines).reshape_as(pos)
        data[feature_key("wall_point")] = wall.clamp(-self.reach, self.reach)
        offset = torch.asinh((pos - wall) / self.length)
        data[feature_key("wall_offset")] = offset
        return set_features(data, self.fields(pos.size(1)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(length={self.length}, reach={self.reach})"
