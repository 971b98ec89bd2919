"""Published surfaces of solver runs, each with a mesh and tables."""

import operator
import os
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch_geometric.data import Data

from torch_geometric_flare._files import read_table, sha256_of
from torch_geometric_flare.datasets.arrays import Array, to_tensor
from torch_geometric_flare.datasets.draw_cells import draw_cells
from torch_geometric_flare.datasets.sources import ConvertedFiles
from torch_geometric_flare.fields import Fields, choose_fields
from torch_geometric_flare.transforms import Normalizer, make_input


class SurfaceRuns(ConvertedFiles):
    """Base class of data sets of one body in many shapes, with a folder per run.

    `root/raw/<hub_folder>/run_N` holds the mesh of run N with pressure and wall shear
    stress at its cells, and tables, the first with force coefficients. A subclass
    defines the attributes below and `split_of`, and documents the arguments.
    """

    array_names = ("pos", "normal", "area", "pressure", "wall_shear_stress", "run")

    run_files: ClassVar[tuple[str, ...]]
    """Files in the folder of a run, the mesh first; `{}` is its number."""
    mesh_size: ClassVar[str]
    """Text that gives the size of a mesh."""
    pressure_array: ClassVar[str]
    """Cell data of the mesh with the pressure."""
    shear_array: ClassVar[str]
    """Cell data of the mesh with the wall shear stress."""
    drawing: ClassVar[str]
    """Prefix of the folder of drawn cells, before their number."""
    available_fields: ClassVar[Fields]
    """The available targets."""
    coordinate_bounds: ClassVar[tuple[tuple[float, ...], tuple[float, ...]]]
    """Lower and upper corner, in meters, of the box that `x` maps to the unit cube."""
    coefficient_names: ClassVar[tuple[str, ...]] = ("cd", "cl", "clf", "clr", "cs")
    """Force coefficients in a table; the first two are required."""

    @abstractmethod
    def split_of(self, run: int) -> str | None:
        """Return the split of a run; `None` if it is in none."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        runs: Sequence[int] | None = None,
        num_points: int | None = 100_000,
        sampling: str = "area",
        seed: int = 0,
        revision: str | None = None,
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        force_reload: bool = False,
        fields: Sequence[str] = ("pressure",),
    ) -> None:
        self.runs = None if runs is None else _checked_runs(runs)
        if num_points is not None and num_points < 1:
            raise ValueError(
                f"num_points must be at least 1 or None, got {num_points}."
            )
        if sampling not in ("area", "uniform"):
            raise ValueError(f"sampling must be 'area' or 'uniform', got {sampling!r}.")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}.")
        self.num_points = num_points
        self.sampling = sampling
        self.seed = seed
        self.fields = choose_fields(fields, self.available_fields)
        super().__init__(root, split, revision, transform, pre_transform, force_reload)

    @property
    def name(self) -> str:
        """Folder of the cells drawn from these runs."""
        if self.runs is None:
            return self._drawing
        digest = sha256_of(repr(self.runs).encode())
        return f"{self._drawing}_runs_{digest[:12]}"

    @property
    def _drawing(self) -> str:
        if self.num_points is None:
            return f"{self.drawing}_all"
        return f"{self.drawing}_{self.num_points}_{self.sampling}_seed_{self.seed}"

    @property
    def converted_dir(self) -> Path:
        """Folder of the drawn cells, the same for all splits and choices of `runs`."""
        return Path(self.root, "processed", self._drawing, "converted")

    @property
    def raw_file_names(self) -> list[str]:
        """Mesh and tables of each run."""
        return [f"{self.hub_folder}/{path}" for path in self.hub_files()]

    def hub_files(self) -> Iterator[str]:
        """Return the paths of mesh and tables of each run."""
        for run in self._chosen():
            yield from self._paths_of(run)

    def _paths_of(self, run: int | str) -> list[str]:
        return [f"run_{run}/{name.format(run)}" for name in self.run_files]

    def download(self) -> None:
        """Download missing files of the runs."""
        if not self._chosen():
            folder = Path(self.raw_dir, self.hub_folder)
            files = " ".join(f'"{path}"' for path in self._paths_of(1))
            raise FileNotFoundError(
                f"'{folder}' has no mesh {self._paths_of('N')[0]} of the {self.split} "
                f"split. Place there the runs that you want ({self.mesh_size} each): "
                f"`hf download {self.repo_id} --repo-type dataset --include {files} "
                f'--local-dir "{folder}"`; or name them by runs=(1, …) to have them '
                "fetched."
            )
        super().download()

    def sample_files(self) -> dict[str, tuple[Path, ...]]:
        """Return mesh and tables of each run."""
        folder = Path(self.raw_dir, self.hub_folder)
        return {
            f"run_{run}": tuple(folder / path for path in self._paths_of(run))
            for run in self._chosen()
        }

    def convert(self, name: str) -> dict[str, Array]:
        """Read a mesh and draw cells from it."""
        from torch_geometric_flare.mesh_io import polygon_vectors, read_mesh

        path, *tables = self._files()[name]
        run = int(name.removeprefix("run_"))
        mesh = read_mesh(path)
        try:
            centers, vectors = polygon_vectors(mesh)
        except ValueError as error:
            raise ValueError(f"'{path}': {error}.") from error
        areas = np.linalg.norm(vectors, axis=1)
        pressure = _cell_data(mesh, self.pressure_array, 1, path)
        shear = _cell_data(mesh, self.shear_array, 3, path)
        rng = np.random.default_rng([self.seed, run])
        by_area = self.sampling == "area"
        try:
            drawn, probability = draw_cells(areas, self.num_points, by_area, rng)
        except ValueError as error:
            raise ValueError(f"'{path}': {error}.") from error
        areas = areas[drawn]
        # A degenerate cell has no direction.
        normals = vectors[drawn] / np.where(areas > 0, areas, 1.0)[:, None]
        return {
            "pos": centers[drawn].astype(np.float32),
            "normal": normals.astype(np.float32),
            "area": (areas / probability).astype(np.float32),
            "pressure": pressure[drawn],
            "wall_shear_stress": shear[drawn],
            "run": np.array(run),
            **self.read_tables(tables),
        }

    def make_sample(self, arrays: Mapping[str, Array], name: str) -> Data:
        """Return a sample from the drawn cells."""
        tensors = {
            key: torch.from_numpy(arrays[key])
            for key in ("pos", "normal", "area", "pressure", "wall_shear_stress")
        }
        numbers = {
            key: torch.from_numpy(arrays[key])
            for key in (*self.coefficient_names, "u")
            if key in arrays
        }
        data = Data(
            y=torch.cat([tensors[field.name] for field in self.fields], dim=1),
            run=int(arrays["run"]),
            **{key: value for key, value in tensors.items() if key != "pressure"},
            **numbers,
        )
        bounds = Normalizer.from_bounds(*self.coordinate_bounds)
        data.x = make_input(data, coordinate_normalizer=bounds)
        data.weight = data.area
        return data

    def read_tables(self, tables: Sequence[Path]) -> dict[str, Array]:
        """Return the numbers in the tables of a run: here, the force coefficients.

        Args:
            tables: The files of `run_files` after the mesh.

        Returns:
            Coefficients of `coefficient_names`, [1] each; with `conditions` also `u`,
            [1, G].

        Raises:
            ValueError: If a table is malformed. The message names it.
        """
        names = self.coefficient_names
        coefficients = read_row(tables[0], names[:2], names[2:])
        return {name: np.array([value]) for name, value in coefficients.items()}

    def _chosen(self) -> tuple[int, ...]:
        """Return the requested runs, or those of the split that are present."""
        if self.runs is not None:
            return self.runs
        folders = Path(self.raw_dir, self.hub_folder).glob("run_*")
        matches = (re.fullmatch(r"run_([1-9]\d*)", folder.name) for folder in folders)
        present = sorted(int(match[1]) for match in matches if match)
        return tuple(
            run
            for run in present
            if self.split_of(run) == self.split
            and Path(self.raw_dir, self.hub_folder, self._paths_of(run)[0]).is_file()
        )


def _checked_runs(runs: Sequence[int]) -> tuple[int, ...]:
    """Return the runs as Python integers, because NumPy's change the folder name."""
    try:
        numbers = tuple(operator.index(run) for run in runs)
    except TypeError:
        numbers = ()
    if not numbers or len(set(numbers)) < len(numbers) or min(numbers) < 1:
        raise ValueError(f"runs must be different integers from 1, got {runs!r}.")
    return numbers


def _cell_data(
    mesh: object, name: str, channels: int, path: Path
) -> npt.NDArray[np.float32]:
    """Return finite values at the cells, [N, C]."""
    data = mesh.cell_data  # type: ignore[attr-defined]
    if name not in data:
        raise ValueError(f"'{path}' lacks the cell data {name}, and has {list(data)}.")
    values = np.asarray(data[name])
    if values.dtype.kind not in "fiu":
        raise ValueError(f"'{path}': {name} holds no numbers.")
    if values.ndim == 1:
        values = values[:, None]
    checked: npt.NDArray[np.float32] = to_tensor(
        values, channels, f"'{path}': {name}"
    ).numpy()
    return checked


def read_row(
    path: Path, required: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, float]:
    """Return the numbers in the single row of a table by column name.

    Args:
        path: The CSV file.
        required: Required columns, in lower case; case-insensitive.
        optional: Optional columns.

    Raises:
        ValueError: If the table is malformed or lacks a column. The message names both.
    """
    try:
        names, numbers = (row for row in read_table(path) if row)
        by_name = dict(
            zip((name.strip().lower() for name in names), numbers, strict=True)
        )
        values = {
            name: float(by_name[name])
            for name in (*required, *optional)
            if name in by_name
        }
    except ValueError as error:
        raise ValueError(
            f"'{path}' is not a table of one header and one row of numbers: {error}."
        ) from error
    if not set(required) <= set(values) or not np.isfinite(list(values.values())).all():
        raise ValueError(
            f"'{path}' must give finite {', '.join(required)}, and holds "
            f"{', '.join(by_name)}."
        )
    return values
