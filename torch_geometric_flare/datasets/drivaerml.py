"""Surface pressure and wall shear on 484 cars, sampled from DrivAerML."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch_geometric.data import Data

from torch_geometric_flare.datasets.arrays import Array, to_tensor
from torch_geometric_flare.datasets.sources import FilePerSample
from torch_geometric_flare.fields import Field, Fields, choose_fields
from torch_geometric_flare.transforms import Normalizer, make_input

SIZES = ("10k", "40k", "50k", "100k", "200k", "300k", "400k", "500k", "1m")


class DrivAerML(FilePerSample):
    r"""The presampled surfaces of DrivAerML: one car per sample.

    DrivAerML (Ashton et al., 2024, <https://arxiv.org/abs/2408.11969>) is a set of
    scale-resolving simulations of parametrically morphed notchback cars in air at
    38.889 m/s. The files read here hold a fixed number of presampled surface cells of
    each car: `vedantpuri/PDESurrogates` on the Hugging Face hub, 387 cars to train on
    and 97 to test.

    A sample has

    - `x` [N, 3], the coordinates scaled by `coordinate_bounds`, $(p - l)/(u - l)$;
    - `pos` [N, 3], the cell centers in meters;
    - `y` [N, C], the concatenated `fields`, as in the file: kinematic pressure [N, 1]
      and kinematic wall shear stress [N, 3], both in m²/s². Subtract `pressure_mean`
      and divide by `pressure_std` to normalize the pressure;
    - `wall_shear_stress` [N, 3], kinematic, in m²/s², the components along x, y, z. It
      has the sign of the file and of OpenFOAM: opposite to the flow near the wall.
      `metrics.force_coefficients` takes its negative as `shear_stress`;
    - `run`, the number of the run.

    The files have neither normals nor areas. Samples are sorted by run number, and each
    is read from disk on access.

    The archive is downloaded (`pip install ".[data]"`) and unpacked on first use.
    Without a connection, manually place either the archive,
    `root/raw/drivaerml_surface_presampled_40k.tar.gz`, or its content, the folder
    `root/raw/drivaerml_surface_presampled_40k/{train,test}/run_*.npz`. Once unpacked
    the archive may be deleted.

    Files are verified when read, and the result of `pre_transform` is stored, see
    `VerifiedDataset`.

    Args:
        root: The folder for the files.
        split: `"train"` or `"test"`.
        num_points: Number of points per car, `"10k"`, `"40k"`, `"50k"`, `"100k"`,
            `"200k"`, `"300k"`, `"400k"`, `"500k"` or `"1m"`.
        revision: The commit, tag or branch of the hub's repository; `None` takes the
            latest. Files downloaded earlier must belong to that revision.
        transform: Applied to each sample on access.
        pre_transform: Applied once to each sample; the result is stored.
        force_reload: Whether to process the unpacked files again. To download again,
            delete the files in `root/raw`.
        fields: Names of the targets, in the order of their columns in `y`:
            `"pressure"`, `"wall_shear_stress"`, or both.

    Raises:
        ValueError: If an argument is invalid, or if a file is malformed or has changed.
        FileNotFoundError: If the hub or the folder has no such files.
        ConnectionError: If files are missing and the hub cannot be reached.
    """

    repo_id: ClassVar[str] = "vedantpuri/PDESurrogates"
    array_names = ("surface_mesh_centers", "surface_fields")
    published_sizes: ClassVar[dict[str, int]] = {"train": 387, "test": 97}

    available_fields: ClassVar[Fields] = (
        Field("pressure", 1, "m²/s²"),
        Field("wall_shear_stress", 3, "m²/s²"),
    )
    """The available targets."""
    pressure_mean: ClassVar[float] = -229.845718
    """Mean of the kinematic pressure, in m²/s², that the papers use to normalize."""
    pressure_std: ClassVar[float] = 269.598572
    """Standard deviation of the same pressure, in m²/s²."""
    coordinate_bounds: ClassVar[
        tuple[tuple[float, float, float], tuple[float, float, float]]
    ] = ((-0.9425, -1.1314, -0.3176), (4.1325, 1.1317, 1.2445))
    """Lower and upper corner, in meters, of the box that `x` maps to the unit cube."""
    speed: ClassVar[float] = 38.889
    """Free-stream speed, along +x, in m/s."""
    density: ClassVar[float] = 1.0
    """Density of a kinematic pressure, which is one."""
    reference_area: ClassVar[float] = 2.17
    """Reference area of the published force coefficients, in m²."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        num_points: str = "40k",
        revision: str | None = None,
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        force_reload: bool = False,
        fields: Sequence[str] = ("pressure",),
    ) -> None:
        if num_points not in SIZES:
            raise ValueError(
                f"num_points must be one of {list(SIZES)}, got {num_points!r}."
            )
        self.num_points = num_points
        self.fields = choose_fields(fields, self.available_fields)
        super().__init__(root, split, revision, transform, pre_transform, force_reload)

    @property
    def name(self) -> str:
        """Name of the archive with both splits."""
        return f"drivaerml_surface_presampled_{self.num_points}"

    @property
    def raw_file_names(self) -> list[str]:
        """The folder of the split; unpacking creates it atomically."""
        return [f"{self.name}/{self.split}"]

    def hub_files(self) -> list[str]:
        """Return the name of the archive."""
        return [f"{self.name}.tar.gz"]

    def sample_paths(self) -> list[Path]:
        """Return the files of the split, sorted by run number."""
        folder = Path(self.raw_paths[0])
        paths = [
            path
            for path in folder.iterdir()
            if re.fullmatch(r"run_\d+\.npz", path.name)
        ]
        if not paths:
            raise FileNotFoundError(f"'{folder}' holds no run_*.npz.")
        return sorted(paths, key=lambda path: _run(path.stem))

    def make_sample(self, arrays: Mapping[str, Array], name: str) -> Data:
        """Return a sample from centers [N, 3] and fields [N, 4]."""
        path = self.source(name)
        centers, fields = (
            to_tensor(arrays[key], channels, f"'{path}': {key}")
            for key, channels in zip(self.array_names, (3, 4), strict=True)
        )
        if len(centers) != len(fields):
            raise ValueError(
                f"'{path}': {self.array_names[0]} has {len(centers)} points, "
                f"{self.array_names[1]} {len(fields)}."
            )
        values = {
            "pressure": fields[:, :1],
            "wall_shear_stress": fields[:, 1:].contiguous(),
        }
        data = Data(
            pos=centers,
            y=torch.cat([values[field.name] for field in self.fields], dim=1),
            wall_shear_stress=values["wall_shear_stress"],
            run=_run(name),
        )
        bounds = Normalizer.from_bounds(*self.coordinate_bounds)
        data.x = make_input(data, coordinate_normalizer=bounds)
        return data


def _run(name: str) -> int:
    return int(name.removeprefix("run_"))
