"""Surface pressure and wall shear on 500 Ahmed bodies, from AhmedML."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from torch_geometric_flare.datasets.arrays import Array
from torch_geometric_flare.datasets.drivaerml import DrivAerML
from torch_geometric_flare.datasets.surface_runs import SurfaceRuns, read_row
from torch_geometric_flare.fields import Field, Fields

_WITHOUT_PARAMETERS = 500


class AhmedML(SurfaceRuns):
    r"""The surfaces of AhmedML: 500 Ahmed bodies, with the parameters of their shapes.

    AhmedML (Ashton et al., 2024, <https://arxiv.org/abs/2407.20801>, CC BY-SA 4.0),
    repository `neashton/ahmedml` on the Hugging Face hub: scale-resolving simulations
    of car-like bodies in a flow of 1 m/s, each with a surface of about a million cells.

    A sample has

    - `x` [N, 3], the coordinates scaled by `coordinate_bounds`, $(p - l)/(u - l)$;
    - `pos` [N, 3], the means of the corners of the cells, in meters;
    - `y` [N, C], the concatenated `fields`: kinematic pressure [N, 1] and kinematic
      wall shear stress [N, 3], both in m²/s²;
    - `u` [1, 8], the parameters of the shape, as `conditions` names them;
    - `wall_shear_stress`, `normal`, `area` and `weight` as those of `DrivAerMLRaw`. The
      stress has the sign of the file and of OpenFOAM: opposite to the flow near the
      wall. `metrics.force_coefficients` takes its negative as `shear_stress`;
    - `cd`, `cl` [1] in double precision, the coefficients of drag and lift in
      `force_mom_N.csv`, for the reference area of 0.112032 m²;
    - `run`, the number of the run.

    Place the files manually, because a mesh has 60 to 90 MB:
    `root/raw/ahmedml/run_N/boundary_N.vtp`, with `force_mom_N.csv` and
    `geo_parameters_N.csv` in the same folder. Only the runs named in `runs` are
    downloaded if they are missing. Run 500 was published without its parameters: it is
    part of a split only if its file exists.

    The publication defines no split. The splits here are those of two public codes:
    `torch.randperm(500) + 1` with the seed 42, the first 400 runs for training, the
    next 50 for validation, the last 50 for testing; each uses the runs that are
    present.

    To train with the parameters as conditions, use
    `Surrogate(conditions=AhmedML.conditions, condition_normalizer=...)`.

    Args:
        root: The folder for the files.
        split: `"train"`, `"val"` or `"test"`.
        runs: Numbers of the runs to use instead of those of the split, in this order.
        num_points: Number of cells drawn from each body, without replacement; `None`
            for all.
        sampling: `"area"` draws cells with probabilities proportional to their areas (a
            cell whose probability would exceed 1 is always drawn), `"uniform"` with
            equal probabilities.
        seed: Seed of the draw, which depends only on the seed and the run.
        revision: The commit, tag or branch of the hub's repository; `None` takes the
            latest. Files downloaded earlier must belong to that revision.
        transform: Applied to each sample on access.
        pre_transform: Applied once to each sample; the result is stored.
        force_reload: Whether to read the meshes again.
        fields: Names of the targets, in the order of their columns in `y`:
            `"pressure"`, `"wall_shear_stress"`, or both.

    Raises:
        ValueError: If an argument is invalid, a body has fewer cells than are to be
            drawn, or a file is malformed or has changed.
        FileNotFoundError: If no run of the split exists, or some of `runs` are missing.
        ConnectionError: If files of `runs` are missing and the hub cannot be reached.
    """

    repo_id: ClassVar[str] = "neashton/ahmedml"
    hub_folder = "ahmedml"
    run_files = ("boundary_{}.vtp", "force_mom_{}.csv", "geo_parameters_{}.csv")
    mesh_size = "60 to 90 MB"
    pressure_array = "pMean"
    shear_array = "wallShearStressMean"
    drawing = "ahmedml"
    coefficient_names = ("cd", "cl")
    published_sizes: ClassVar[dict[str, int]] = {"train": 400, "val": 50, "test": 50}

    available_fields: ClassVar[Fields] = DrivAerML.available_fields
    """The available targets."""
    conditions: Fields = (
        Field("body_length", unit="mm", source="body-length"),
        Field("body_height", unit="mm", source="body-height"),
        Field("body_width", unit="mm", source="body-width"),
        Field("front_arc_diameter", unit="mm", source="front-arc-diameter"),
        Field("slant_angle_length", unit="mm", source="slant-angle-length"),
        Field("slant_angle_height", unit="mm", source="slant-angle-height"),
        Field("slant_surface_length", unit="mm", source="slant-surface-length"),
        Field("slant_angle_degrees", unit="°", source="slant-angle-degrees"),
    )
    """Names and units of the columns of `u`; each `source` is a column of the file."""
    coordinate_bounds = ((-1.1992, -0.25, 0.0496), (0.0002, 0.25, 0.3649))
    """Lower and upper corner, in meters, of the box that `x` maps to the unit cube."""
    pressure_mean: ClassVar[float] = -0.10099
    """Mean of the kinematic pressure over all cells of the training split, in m²/s²."""
    pressure_std: ClassVar[float] = 0.18821
    """Standard deviation of the same pressure, in m²/s²."""
    speed: ClassVar[float] = 1.0
    """Free-stream speed, along +x, in m/s."""
    density: ClassVar[float] = 1.0
    """Density of a kinematic pressure, which is one."""
    reference_area: ClassVar[float] = 0.112032
    """Reference area of the force coefficients, 389 mm by 288 mm, in m²."""

    def split_of(self, run: int) -> str | None:
        """Return the split of a run; `None` if it is in none."""
        if run > len(_splits()):
            return None
        if run == _WITHOUT_PARAMETERS:
            table = f"{self.hub_folder}/run_{run}/geo_parameters_{run}.csv"
            if not Path(self.raw_dir, table).is_file():
                return None
        return _splits()[run - 1]

    def read_tables(self, tables: Sequence[Path]) -> dict[str, Array]:
        """Return the force coefficients and the parameters of the shape, as `u`."""
        forces, shape = tables
        names = [field.array for field in self.conditions]
        parameters = read_row(shape, names)
        u = np.array([[parameters[name] for name in names]], np.float32)
        return {**super().read_tables([forces]), "u": u}


@functools.cache
def _splits() -> tuple[str, ...]:
    """Return the split of each run, from the first."""
    generator = torch.Generator("cpu").manual_seed(42)
    order = torch.randperm(500, generator=generator, device="cpu")
    splits = [""] * len(order)
    for place, run in enumerate(order.tolist()):
        splits[run] = "train" if place < 400 else "val" if place < 450 else "test"
    return tuple(splits)
