"""Surface pressure on 889 cars of ShapeNet."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch_geometric.data import Data

from torch_geometric_flare._extras import needs_extra
from torch_geometric_flare.datasets.arrays import Array, open_npy, to_tensor
from torch_geometric_flare.datasets.sources import ConvertedFiles
from torch_geometric_flare.datasets.stored import MeshData
from torch_geometric_flare.fields import Field
from torch_geometric_flare.transforms import make_input

_FILES = ("quadpress_smpl.vtk", "press.npy", "cd.txt")


class ShapeNetCar(ConvertedFiles):
    r"""Surface pressure at the vertices of ShapeNet cars in an air stream.

    The `mlcfd_data` of Umetani and Bickel (2018, *Learning three-dimensional flow for
    interactive aerodynamic design*, <https://doi.org/10.1145/3197517.3201325>): 889
    cars at 20 m/s, each a mesh of 3,682 points of which 3,586 belong to a face. A later
    release of 611 watertight surfaces is another set.

    A sample has

    - `x`, `pos` [N, 3], the vertices that belong to a face, in meters;
    - `y` [N, 1], the pressure as in the file, whose unit is not stated;
    - `cells` [E, 4], the vertices of the quads;
    - `weight` [N], the same as `area`;
    - `normal` [N, 3], outward unit normals, and `area` [N] in m², equal shares of the
      quads around each vertex. Both are computed;
    - `drag_coefficient` [1], as in `cd.txt`, in double precision.

    The velocity around the car (`hexvelo_smpl.vtk`, `velo.npy`) is not read.

    The archive is not on the Hugging Face hub: download `mlcfd_data.zip` from the page
    of the publication and unpack it manually to
    `root/raw/mlcfd_data/training_data/param0` to `param8`, with a folder per car that
    holds `quadpress_smpl.vtk`, `press.npy` and `cd.txt`. Folders without any of them
    (four in the archive) are ignored.

    Each mesh is read once, in a separate process (`pip install ".[data]"`), which takes
    a second or two per car, and stored, see `ConvertedFiles`.

    Args:
        root: The folder for the files.
        split: `"train"` or `"test"`.
        fold: Which of the nine `param` folders is the test split; the others are the
            training split. Most published results use fold 0, with 789 training and 100
            test cars.
        transform: Applied to each sample on access.
        pre_transform: Applied once to each sample; the result is stored.
        force_reload: Whether to read the meshes again.

    Raises:
        ValueError: If an argument is invalid, or if a file is malformed or has changed.
        FileNotFoundError: If files are missing.
    """

    published_sizes: ClassVar[dict[str, int]] = {"train": 789, "test": 100}
    fields = (Field("pressure"),)
    array_names = ("pos", "normal", "area", "cells", "pressure", "drag_coefficient")

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        fold: int = 0,
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        force_reload: bool = False,
    ) -> None:
        if type(fold) is not int or fold not in range(9):
            raise ValueError(f"fold must be one of 0 to 8, got {fold!r}.")
        self.fold = fold
        super().__init__(root, split, None, transform, pre_transform, force_reload)

    @property
    def name(self) -> str:
        """Folder of the fold."""
        return f"shapenet_car_fold_{self.fold}"

    @property
    def converted_dir(self) -> Path:
        """Folder of the converted meshes, the same for all folds."""
        return Path(self.root, "processed", "shapenet_car")

    @property
    def raw_file_names(self) -> list[str]:
        """The folders of the split."""
        test = self.split == "test"
        folds = [fold for fold in range(9) if (fold == self.fold) == test]
        return [f"mlcfd_data/training_data/param{fold}" for fold in folds]

    def hub_files(self) -> tuple[str, ...]:
        """Return nothing; the hub does not have this set."""
        return ()

    def download(self) -> None:
        """Raise an error that says what is missing and where to get it."""
        missing = [path for path in self.raw_paths if not Path(path).is_dir()]
        raise FileNotFoundError(
            f"'{missing[0]}' is missing. Take mlcfd_data.zip from the page of Umetani "
            "and Bickel (2018), https://doi.org/10.1145/3197517.3201325, and unpack it "
            f"in '{self.raw_dir}', so that param0 to param8 lie in "
            f"'{Path(missing[0]).parent}'."
        )

    def sample_files(self) -> dict[str, tuple[Path, ...]]:
        """Return the files of each car, by the folder and its hash."""
        cars = {}
        for folder in map(Path, self.raw_paths):
            for car in sorted(path for path in folder.iterdir() if path.is_dir()):
                files = tuple(car / name for name in _FILES)
                if any(file.exists() for file in files):
                    cars[f"{folder.name}_{car.name}"] = files
        if not cars:
            raise FileNotFoundError(f"'{self.raw_paths[0]}' holds no cars.")
        return cars

    def convert(self, name: str) -> dict[str, Array]:
        """Read a mesh and the pressure at its points."""
        with needs_extra("data", "ShapeNetCar"):
            from pyvista import PolyData
            from vtk import VTK_QUAD

        from torch_geometric_flare.mesh_io import mesh_areas, mesh_normals, read_mesh

        path, pressure_path, drag_path = self._files()[name]
        mesh = read_mesh(path)
        quads = getattr(mesh, "cells_dict", {}).get(VTK_QUAD)
        if quads is None or len(quads) != mesh.n_cells:
            raise ValueError(f"'{path}' must be an unstructured mesh of quads alone.")
        pressure = np.asarray(open_npy(pressure_path))
        if pressure.shape != (mesh.n_points,):
            raise ValueError(
                f"'{pressure_path}' has the shape {pressure.shape}, but the mesh "
                f"beside it has {mesh.n_points} points."
            )
        used, cells = np.unique(quads, return_inverse=True)
        cells = cells.reshape(-1, 4).astype(np.int64)
        pos = np.asarray(mesh.points, np.float64)[used]
        surface = PolyData.from_regular_faces(pos, cells)
        normal = mesh_normals(surface).numpy()
        area = mesh_areas(surface).numpy()
        # Not every car is closed: choose one sign for all normals from the volume.
        outward = np.sum((pos - pos.mean(0)) * normal * area) >= 0
        return {
            "pos": pos.astype(np.float32),
            "normal": normal if outward else -normal,
            "area": area[:, 0],
            "cells": cells,
            "pressure": to_tensor(
                pressure[used, None], 1, f"'{pressure_path}'"
            ).numpy(),
            "drag_coefficient": _read_number(drag_path),
        }

    def make_sample(self, arrays: Mapping[str, Array], name: str) -> Data:
        """Return a sample from its converted arrays."""
        tensors = {key: torch.from_numpy(arrays[key]) for key in self.array_names}
        data = MeshData(y=tensors.pop("pressure"), **tensors)
        data.weight = data.area
        data.x = make_input(data)
        return data

    def _log_size(self, size: int) -> None:
        if self.fold == 0:  # the only fold with published sizes
            super()._log_size(size)


def _read_number(path: Path) -> Array:
    """Return the single number in a text file."""
    try:
        number = float(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"'{path}' does not hold one number: {error}.") from error
    if not np.isfinite(number):
        raise ValueError(f"'{path}' holds {number}, which is not finite.")
    return np.array([number])
