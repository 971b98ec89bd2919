"""Base classes of the data sets of the Geo-FNO paper."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch_geometric.data import Data

from torch_geometric_flare.datasets.arrays import Array, open_npy, to_tensor
from torch_geometric_flare.datasets.sources import StackedArrays
from torch_geometric_flare.transforms import make_input


class GeoFNO(StackedArrays):
    r"""Base class of the data sets in the archive `Geo-FNO.tar.gz`."""

    repo_id: ClassVar[str] = "vedantpuri/PDESurrogates"
    published_sizes: ClassVar[dict[str, int]] = {"train": 1000, "test": 200}

    def hub_files(self) -> list[str]:
        """Return the name of the archive."""
        return ["Geo-FNO.tar.gz"]


class GeoFNOFlow(GeoFNO):
    r"""Base class of flows on curvilinear grids: the files `<prefix>{X,Y,Q}.npy`.

    X and Y are [n, H, W], Q is [n, channels, H, W].
    """

    index_ranges: ClassVar[dict[str, range]] = {
        "train": range(1000),
        "test": range(1000, 1200),
    }
    prefix: ClassVar[str]
    """Path prefix of the three files, relative to `root/raw`."""
    grid: ClassVar[tuple[int, int]]
    """Rows and columns, (H, W)."""
    num_channels: ClassVar[int]
    """Number of channels of Q."""
    target_channel: ClassVar[int]
    """The channel of Q in `y`."""

    @property
    def raw_file_names(self) -> list[str]:
        """The files of x and y coordinates and of the flow."""
        return [f"{self.prefix}{array}.npy" for array in "XYQ"]

    def open_arrays(self) -> Mapping[str, Array]:
        """Return X and Y [n, H, W] and the target channel of Q [n, H, W]."""
        x, y, q = (Path(path) for path in self.raw_paths)
        flow = open_npy(q, (None, self.num_channels, *self.grid))
        return {
            "X": open_npy(x, (None, *self.grid)),
            "Y": open_npy(y, (None, *self.grid)),
            "Q": flow[:, self.target_channel],
        }

    def make_sample(self, arrays: Mapping[str, Array], name: str) -> Data:
        """Return a sample from X, Y and one channel of Q, all [H, W]."""
        paths = dict(zip("XYQ", self.raw_paths, strict=True))
        x, y, target = (
            to_tensor(arrays[key].reshape(-1, 1), 1, f"sample {int(name)} of '{path}'")
            for key, path in paths.items()
        )
        data = Data(pos=torch.cat([x, y], dim=1), y=target, grid=self.grid)
        data.x = make_input(data, self.features)
        return data
