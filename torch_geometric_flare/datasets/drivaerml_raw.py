"""Surface pressure and wall shear on the meshes of DrivAerML as they are published."""

import csv
import operator
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch_geometric.data import Data

from torch_geometric_flare._files import sha256_of
from torch_geometric_flare.datasets.arrays import Array, to_tensor
from torch_geometric_flare.datasets.draw_cells import draw_cells
from torch_geometric_flare.datasets.drivaerml import DrivAerML
from torch_geometric_flare.datasets.sources import ConvertedFiles
from torch_geometric_flare.fields import Fields, choose_fields
from torch_geometric_flare.transforms import Normalizer, make_input

_COEFFICIENTS = ("cd", "cl", "clf", "clr", "cs")
# fmt: off
_WITHOUT_RESULTS = {
    167, 211, 218, 221, 248, 282, 291, 295, 316, 325, 329, 364, 370, 376, 403, 473,
}
_VAL = {
    4, 22, 56, 109, 150, 165, 177, 191, 228, 234, 241, 247, 252, 253, 260, 271, 275,
    298, 303, 311, 321, 324, 328, 341, 352, 366, 380, 390, 401, 423, 441, 447, 454, 487,
}
_TEST = {
    11, 12, 19, 20, 24, 26, 29, 41, 55, 59, 108, 124, 127, 133, 142, 158, 173, 180, 187,
    188, 197, 199, 203, 205, 207, 208, 210, 215, 222, 226, 258, 263, 280, 284, 290, 322,
    337, 350, 354, 363, 372, 382, 387, 405, 410, 424, 428, 429, 436, 472,
}
# fmt: on


class DrivAerMLRaw(ConvertedFiles):
    r"""The surface meshes of DrivAerML as published: one car per sample.

    DrivAerML (Ashton et al., 2024, <https://arxiv.org/abs/2408.11969>), repository
    `neashton/drivaerml` on the Hugging Face hub: 484 cars in air at 38.889 m/s, each
    with a surface of about 8.8 million polygons. For the presampled surfaces that the
    FLARE papers train on, see `DrivAerML`.

    A sample has

    - `x` [N, 3], the coordinates scaled by `coordinate_bounds`, $(p - l)/(u - l)$;
    - `pos` [N, 3], the means of the corners of the polygons, in metres;
    - `y` [N, C], the chosen `fields` side by side: kinematic pressure [N, 1] and
      kinematic wall shear stress [N, 3], both in m²/s²;
    - `wall_shear_stress` [N, 3] with the sign of the file, which is that of OpenFOAM:
      against the flow near the wall. The force on the car per area is
      `-(pressure * normal + wall_shear_stress)` times the density, so that
      `metrics.force_coefficients` takes its negative as `shear_stress`;
    - `normal` [N, 3], unit and outward; zero on a polygon without extent. The files
      have none: all are turned at once so that the car has a positive volume;
    - `area` [N] in m², the part of the surface that a point stands for. If points are
      drawn, it is the area of the cell over the probability of having drawn it, so
      that a sum over the sample, such as the drag, has the sum over all cells as its
      mean. With `sampling="area"` the areas add up to the whole surface;
    - `weight` [N], the same as `area`;
    - `cd`, `cl`, `clf`, `clr`, `cs` [1] in double precision, those coefficients of
      drag, lift (whole, front, rear) and side force that `force_mom_constref_N.csv`
      has, for the reference area of 2.17 m²;
    - `run`, the number of the run.

    Files are placed by hand, for a car has 0.7 GB:
    `root/raw/drivaerml/run_N/boundary_N.vtp` and `force_mom_constref_N.csv` beside it.
    Only the runs that are named by `runs` are fetched if they are missing. Meshes are
    read in their own process, one at a time (`pip install
    ".[data]"`), and what was drawn of them is stored: see
    `ConvertedFiles`.

    The publication has no split. The splits here are 400, 34 and 50 runs, the
    `DrivAerMLDefaultSplitIDs` of <https://github.com/Emmi-AI/noether>; each takes the
    runs that are present. `DrivAerML` and other studies split the runs otherwise, so
    that their figures are of other cars.

    Args:
        root: The folder for the files.
        split: `"train"`, `"val"` or `"test"`.
        runs: Numbers of the runs to take instead of those of the split, in this order.
        num_points: The number of cells drawn of each car, without replacement; `None`
            takes all.
        sampling: `"area"` draws cells with probabilities proportional to their areas (a
            cell of more than its share is always drawn), `"uniform"` with equal ones.
        seed: Seed of the drawing, which depends on it and the run alone.
        revision: The commit, tag or branch of the hub's repository; `None` takes the
            latest. Files fetched earlier must be of that revision.
        transform: Applied to a sample whenever it is indexed.
        pre_transform: Applied once to every sample, and its result stored.
        force_reload: Whether to read the meshes again.
        fields: Names of the targets, in the order of their columns in `y`:
            `"pressure"`, `"wall_shear_stress"`, or both.

    Raises:
        ValueError: If an argument is none of its choices, a car has fewer cells than
            are to be drawn, or a file is malformed or has changed.
        FileNotFoundError: If no run of the split, or not all of `runs`, is there.
        ConnectionError: If files of `runs` are missing and the hub cannot be reached.
    """

    repo_id: ClassVar[str] = "neashton/drivaerml"
    hub_folder = "drivaerml"
    array_names = ("pos", "normal", "area", "pressure", "wall_shear_stress", "run")
    published_sizes: ClassVar[dict[str, int]] = {"train": 400, "val": 34, "test": 50}

    available_fields: ClassVar[Fields] = DrivAerML.available_fields
    """The targets that `fields` chooses from."""
    coordinate_bounds = DrivAerML.coordinate_bounds
    """Lower and upper corner, in metres, which `x` maps to 0 and 1."""
    speed: ClassVar[float] = DrivAerML.speed
    """Speed of the oncoming air, along +x, in m/s."""
    density: ClassVar[float] = DrivAerML.density
    """Density that belongs to a kinematic pressure."""
    reference_area: ClassVar[float] = DrivAerML.reference_area
    """Reference area of the published force coefficients, in m²."""

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
        """Folder of what was drawn of these runs."""
        if self.runs is None:
            return self._drawing
        digest = sha256_of(repr(self.runs).encode())
        return f"{self._drawing}_runs_{digest[:12]}"

    @property
    def _drawing(self) -> str:
        if self.num_points is None:
            return "drivaerml_raw_all"
        return f"drivaerml_raw_{self.num_points}_{self.sampling}_seed_{self.seed}"

    @property
    def converted_dir(self) -> Path:
        """Folder of what was drawn, the same for all splits and choices of `runs`."""
        return Path(self.root, "processed", self._drawing, "converted")

    @property
    def raw_file_names(self) -> list[str]:
        """Mesh and coefficients of each run."""
        return [f"{self.hub_folder}/{path}" for path in self.hub_files()]

    def hub_files(self) -> Iterator[str]:
        """Return the paths of mesh and coefficients of each run."""
        for run in self._chosen():
            yield f"run_{run}/boundary_{run}.vtp"
            yield f"run_{run}/force_mom_constref_{run}.csv"

    def download(self) -> None:
        """Fetch what is missing of the runs, if there are any."""
        if not self._chosen():
            raise FileNotFoundError(
                f"'{Path(self.raw_dir, self.hub_folder)}' has no mesh "
                f"run_N/boundary_N.vtp of the {self.split} split. Place there the runs "
                f"that you want (0.7 GB each): `hf download {self.repo_id} --repo-type "
                'dataset --include "run_1/boundary_1.vtp" '
                '"run_1/force_mom_constref_1.csv" --local-dir '
                f'"{Path(self.raw_dir, self.hub_folder)}"`; or name them by '
                "runs=(1, …) to have them fetched."
            )
        super().download()

    def sample_files(self) -> dict[str, tuple[Path, ...]]:
        """Return mesh and coefficients of each run."""
        paths = [Path(path) for path in self.raw_paths]
        pairs = zip(paths[::2], paths[1::2], strict=True)
        return {pair[0].parent.name: pair for pair in pairs}

    def convert(self, name: str) -> dict[str, Array]:
        """Read a mesh and draw cells of it."""
        from torch_geometric_flare.mesh_io import polygon_vectors, read_mesh

        path, table = self._files()[name]
        run = int(name.removeprefix("run_"))
        mesh = read_mesh(path)
        try:
            centers, vectors = polygon_vectors(mesh)
        except ValueError as error:
            raise ValueError(f"'{path}': {error}.") from error
        areas = np.linalg.norm(vectors, axis=1)
        pressure = _cell_data(mesh, "pMeanTrim", 1, path)
        shear = _cell_data(mesh, "wallShearStressMeanTrim", 3, path)
        rng = np.random.default_rng([self.seed, run])
        by_area = self.sampling == "area"
        try:
            drawn, probability = draw_cells(areas, self.num_points, by_area, rng)
        except ValueError as error:
            raise ValueError(f"'{path}': {error}.") from error
        areas = areas[drawn]
        # A cell without extent has no direction.
        normals = vectors[drawn] / np.where(areas > 0, areas, 1.0)[:, None]
        return {
            "pos": centers[drawn].astype(np.float32),
            "normal": normals.astype(np.float32),
            "area": (areas / probability).astype(np.float32),
            "pressure": pressure[drawn],
            "wall_shear_stress": shear[drawn],
            "run": np.array(run),
            **_read_coefficients(table),
        }

    def make_sample(self, arrays: Mapping[str, Array], name: str) -> Data:
        """Return the car made of the drawn cells."""
        tensors = {
            key: torch.from_numpy(arrays[key])
            for key in ("pos", "normal", "area", "pressure", "wall_shear_stress")
        }
        coefficients = {
            key: torch.from_numpy(arrays[key]) for key in _COEFFICIENTS if key in arrays
        }
        data = Data(
            y=torch.cat([tensors[field.name] for field in self.fields], dim=1),
            run=int(arrays["run"]),
            **{key: value for key, value in tensors.items() if key != "pressure"},
            **coefficients,
        )
        bounds = Normalizer.from_bounds(*self.coordinate_bounds)
        data.x = make_input(data, coordinate_normalizer=bounds)
        data.weight = data.area
        return data

    def _chosen(self) -> tuple[int, ...]:
        """Return the runs: those asked for, or those of the split that are present."""
        if self.runs is not None:
            return self.runs
        folders = Path(self.raw_dir, self.hub_folder).glob("run_*")
        found = (re.fullmatch(r"run_([1-9]\d*)", folder.name) for folder in folders)
        return tuple(
            run
            for run in sorted(int(match[1]) for match in found if match)
            if _split_of(run) == self.split
            and Path(
                self.raw_dir, self.hub_folder, f"run_{run}", f"boundary_{run}.vtp"
            ).is_file()
        )


def _checked_runs(runs: Sequence[int]) -> tuple[int, ...]:
    """Return the runs as Python's integers: NumPy's would name another folder."""
    try:
        numbers = tuple(operator.index(run) for run in runs)
    except TypeError:
        numbers = ()
    if not numbers or len(set(numbers)) < len(numbers) or min(numbers) < 1:
        raise ValueError(f"runs must be different integers from 1, got {runs!r}.")
    return numbers


def _split_of(run: int) -> str | None:
    if run in _WITHOUT_RESULTS or run > 500:
        return None
    return "val" if run in _VAL else "test" if run in _TEST else "train"


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


def _read_coefficients(path: Path) -> dict[str, Array]:
    """Return the coefficients in the one row of a table."""
    try:
        # A spreadsheet puts a byte order mark in front.
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file, skipinitialspace=True))
        names, numbers = (row for row in rows if row)
        by_name = dict(
            zip((name.strip().lower() for name in names), numbers, strict=True)
        )
        found = {
            name: np.array([float(by_name[name])])
            for name in _COEFFICIENTS
            if name in by_name
        }
    except (ValueError, csv.Error) as error:
        raise ValueError(
            f"'{path}' is not a table of one header and one row of numbers: {error}."
        ) from error
    if not {"cd", "cl"} <= set(found) or not np.isfinite(list(found.values())).all():
        raise ValueError(
            f"'{path}' must give finite Cd and Cl, and holds {', '.join(by_name)}."
        )
    return found
