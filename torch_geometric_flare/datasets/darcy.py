"""Pressure of the flow through a porous square (FNO)."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch_geometric.data import Data

from torch_geometric_flare._files import replacing
from torch_geometric_flare.datasets.arrays import (
    Array,
    check_shape,
    open_npy,
    to_tensor,
)
from torch_geometric_flare.datasets.matlab import mat_blocks, mat_shapes
from torch_geometric_flare.datasets.sources import StackedArrays
from torch_geometric_flare.fields import Field, Fields
from torch_geometric_flare.transforms import make_input

SIZE = 421  # points along each side, in the files
ARRAYS = ("coeff", "sol")


class Darcy(StackedArrays):
    r"""Pressure in a square of two materials of different permeability, on a grid.

    Darcy flow, $-\nabla \cdot (a \nabla u) = 1$, with $u = 0$ on the boundary of the
    unit square, where $a$ is 12 or 3, drawn at random. Source: FNO (Li et al., 2020,
    <https://arxiv.org/abs/2010.08895>). The FLARE papers read it from
    `vedantpuri/PDESurrogates` on the Hugging Face hub: 1000 samples to train on and
    200 to test.

    A sample has, on H = W = 420 / `step` + 1 points along each side,

    - `pos` [H * W, 2], the grid's points row by row: the first and the second index of
      the file's arrays, scaled to [0, 1];
    - `x` [H * W, 3], the coordinates and the permeability, (x, y, a);
    - `y` [H * W, 1], the pressure u as in the file;
    - `permeability` [H * W, 1], a as in the file;
    - `grid`, (H, W).

    All quantities are dimensionless in the paper. The papers normalize permeability and
    pressure by mean and standard deviation of the training split
    (`Normalizer.gaussian`, without the 1e-8 that they add to the latter), and leave the
    coordinates in [0, 1].

    The archive `FNO.tar.gz` is downloaded (`pip install ".[data]"`) and unpacked on
    first use. Without a connection, manually place either the archive in `root/raw` or,
    in `root/raw/FNO/darcy`, the files

    - `piececonst_r421_N1024_smooth1.mat`, whose samples 0 to 999 are for training;
    - `piececonst_r421_N1024_smooth2.mat`, whose samples 0 to 199 are for testing.

    Both hold `coeff` and `sol` [1024, 421, 421], and may be of MATLAB 5 (read by SciPy)
    or MATLAB 7.3 (read by h5py). Of a file with fewer samples, all existing ones are
    used.

    Every `step`-th point is copied to `root/processed` once, in single precision;
    samples are read from there and verified. After replacing a `.mat` file, pass
    `force_reload=True`. `pre_transform` is applied once and stored, as
    `VerifiedDataset` describes.

    Args:
        root: The folder for the files.
        split: `"train"` or `"test"`.
        step: Use every `step`-th point in both directions; a divisor of 420: 5 gives a
            grid of 85 by 85 points, 1 all 421 by 421.
        revision: The commit, tag or branch of the hub's repository; `None` takes the
            latest. Files downloaded earlier must belong to that revision.
        transform: Applied to each sample on access.
        pre_transform: Applied once to each sample; the result is stored.
        force_reload: Whether to process the unpacked files again. To download again,
            delete the files in `root/raw`.

    Raises:
        ValueError: If an argument is invalid, or if a file is malformed or has changed.
        FileNotFoundError: If the hub or the folder has no such files.
        ConnectionError: If files are missing and the hub cannot be reached.
        ImportError: If a file is to be read and SciPy or h5py is not installed.
    """

    repo_id: ClassVar[str] = "vedantpuri/PDESurrogates"
    published_sizes: ClassVar[dict[str, int]] = {"train": 1000, "test": 200}
    index_ranges: ClassVar[dict[str, range]] = {
        "train": range(1000),
        "test": range(200),
    }
    fields: Fields = (Field("pressure", 1, ""),)
    features: Fields = (Field("permeability", 1, ""),)

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        step: int = 5,
        revision: str | None = None,
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        force_reload: bool = False,
    ) -> None:
        is_integer = isinstance(step, int) and not isinstance(step, bool)
        if not is_integer or step < 1 or (SIZE - 1) % step != 0:
            raise ValueError(
                f"step must be an integer that divides {SIZE - 1}, such as 5, got "
                f"{step!r}."
            )
        self.step = step
        self.grid = ((SIZE - 1) // step + 1,) * 2
        super().__init__(root, split, revision, transform, pre_transform, force_reload)

    @property
    def name(self) -> str:
        """Folder below `root/processed`, which names the step."""
        return f"darcy_step{self.step}"

    @property
    def raw_file_names(self) -> list[str]:
        """The file of the split."""
        number = {"train": 1, "test": 2}[self.split]
        return [f"FNO/darcy/piececonst_r{SIZE}_N1024_smooth{number}.mat"]

    def hub_files(self) -> list[str]:
        """Return the name of the archive."""
        return ["FNO.tar.gz"]

    def convert(self) -> None:
        """Copy every `step`-th point of the split's samples to `.npy` files."""
        path = Path(self.raw_paths[0])
        shapes = mat_shapes(path, ARRAYS)
        for name, shape in shapes.items():
            check_shape(shape, (None, SIZE, SIZE), f"'{path}': {name}")
        lengths = {name: shape[0] for name, shape in shapes.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"'{path}' holds different numbers of samples: {lengths}.")
        count = min(lengths["sol"], len(self.index_ranges[self.split]))
        for name in ARRAYS:
            self._copy(path, name, count)

    def open_arrays(self) -> Mapping[str, Array]:
        """Return coeff and sol [n, H, W] of the split."""
        try:
            return {
                name: open_npy(self._npy(name), (None, *self.grid)) for name in ARRAYS
            }
        except (FileNotFoundError, ValueError) as error:
            raise ValueError(
                f"the copy of '{self.raw_paths[0]}' is missing or damaged: {error} "
                "Pass force_reload=True to make it again."
            ) from error

    def make_sample(self, arrays: Mapping[str, Array], name: str) -> Data:
        """Return a sample from permeability and pressure, both [H, W]."""
        permeability, pressure = (
            to_tensor(
                arrays[key].reshape(-1, 1),
                1,
                f"sample {int(name)} of '{self.source(name)}': {key}",
            )
            for key in ARRAYS
        )
        axes = (torch.linspace(0, 1, size, dtype=torch.float64) for size in self.grid)
        data = Data(
            pos=torch.cartesian_prod(*axes).float(),
            y=pressure,
            permeability=permeability,
            grid=self.grid,
        )
        data.x = make_input(data, self.features)
        return data

    def _npy(self, name: str) -> Path:
        return Path(self.processed_dir, f"{name}.npy")

    def _copy(self, path: Path, name: str, count: int) -> None:
        """Copy one array atomically."""
        with replacing(self._npy(name)) as scratch:
            self._fill(scratch, path, name, count)

    def _fill(self, scratch: Path, path: Path, name: str, count: int) -> None:
        target = open_memmap(scratch, "w+", np.float32, (count, *self.grid))
        try:
            start = 0
            for block in mat_blocks(path, name, count):
                with np.errstate(over="ignore"):  # float32 overflow gives inf
                    target[start : start + len(block)] = block[
                        :, :: self.step, :: self.step
                    ]
                start += len(block)
            target.flush()
        finally:
            del target  # Windows cannot move or delete a memory-mapped file
