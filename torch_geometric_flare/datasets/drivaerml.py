"""Surface pressure and wall shear on 484 cars, sampled from DrivAerML."""

import logging
import os
import re
import sys
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data, Dataset

from torch_geometric_flare.datasets.hub import (
    check_revision,
    download_from_hub,
    extract_archive,
)
from torch_geometric_flare.datasets.records import (
    describe,
    fingerprint,
    read_json,
    read_verified,
    serialize,
    write_atomic,
    write_json,
)
from torch_geometric_flare.datasets.sizes import num_points

SIZES = ("10k", "40k", "50k", "100k", "200k", "300k", "400k", "500k", "1m")

logger = logging.getLogger(__name__)


class DrivAerML(Dataset):
    r"""The presampled surfaces of DrivAerML: one car a sample.

    DrivAerML (Ashton et al., 2024, <https://arxiv.org/abs/2408.11969>) is a set of
    scale-resolving simulations of parametrically morphed notchback cars in air at
    38.889 m/s. The files read here hold a fixed number of surface cells of each car,
    drawn beforehand: `vedantpuri/PDESurrogates` on the Hugging Face hub, 387 cars
    to train on and 97 to test.

    A sample has

    - `x` [N, 3], the coordinates scaled by `coordinate_bounds`, $(p - l)/(u - l)$;
    - `pos` [N, 3], the cell centres in metres;
    - `y` [N, 1], the kinematic pressure in m²/s², as it is in the file; subtract
      `pressure_mean` and divide by `pressure_std` to normalise it;
    - `wall_shear_stress` [N, 3], kinematic, in m²/s², the components along x, y, z;
    - `run`, the number of the run.

    The files have neither normals nor areas. Samples are sorted by run number, and
    each is read from disk when it is indexed.

    The archive is fetched (`pip install "torch-geometric-flare[data]"`) and unpacked
    when the data set is first made. Without a connection, place by hand either the
    archive, `root/raw/drivaerml_surface_presampled_40k.tar.gz`, or the folder that
    it holds, `root/raw/drivaerml_surface_presampled_40k/{train,test}/run_*.npz`.
    Once unpacked the archive may be deleted.

    What is read is verified: the archive against its record when it is unpacked,
    and each sample, whenever it is read, against the hash taken when the split was
    first processed. With `pre_transform`, its results are stored in
    `root/processed`; without, samples come from the `.npz` files, so that nothing is
    stored twice. As everywhere in PyG, the results of an earlier `pre_transform` are
    kept, with a warning, until `force_reload=True`.

    Args:
        root: The folder for the files.
        split: `"train"` or `"test"`.
        num_points: The number of points per car, `"10k"`, `"40k"`, `"50k"`,
            `"100k"`, `"200k"`, `"300k"`, `"400k"`, `"500k"` or `"1m"`.
        revision: The commit, tag or branch of the hub's repository; `None` takes the
            latest. Files fetched earlier must be of that revision.
        transform: Applied to a sample whenever it is indexed.
        pre_transform: Applied once to every sample, and its result stored.
        force_reload: Whether to process, and take the hashes of, the unpacked files
            again. Nothing is fetched again; for that, delete the files in `root/raw`.

    Raises:
        ValueError: If an argument is none of its choices, or if a file is malformed
            or has changed.
        FileNotFoundError: If the hub, or the folder, has no such files.
        ConnectionError: If files are missing and the hub cannot be reached.
    """

    repo_id: ClassVar[str] = "vedantpuri/PDESurrogates"
    published_sizes: ClassVar[dict[str, int]] = {"train": 387, "test": 97}

    pressure_mean: ClassVar[float] = -229.845718
    """Mean of the kinematic pressure, in m²/s², that the papers normalise with."""
    pressure_std: ClassVar[float] = 269.598572
    """Standard deviation that belongs to `pressure_mean`, in m²/s²."""
    coordinate_bounds: ClassVar[
        tuple[tuple[float, float, float], tuple[float, float, float]]
    ] = ((-0.9425, -1.1314, -0.3176), (4.1325, 1.1317, 1.2445))
    """Lower and upper corner, in metres, which `x` maps to 0 and 1."""
    speed: ClassVar[float] = 38.889
    """Speed of the oncoming air, along +x, in m/s."""
    density: ClassVar[float] = 1.0
    """Density that belongs to a kinematic pressure."""
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
    ) -> None:
        if split not in self.published_sizes:
            raise ValueError(
                f"split must be one of {list(self.published_sizes)}, got {split!r}."
            )
        if num_points not in SIZES:
            raise ValueError(
                f"num_points must be one of {list(SIZES)}, got {num_points!r}."
            )
        self.split = split
        self.num_points = num_points
        self.revision = revision
        super().__init__(
            os.fspath(root), transform, pre_transform, force_reload=force_reload
        )

    @property
    def sizes(self) -> list[int]:
        """Points of each car before `transform`; no array is read."""
        return [
            num_points(self._path(self._names[index]), "surface_mesh_centers")
            for index in self.indices()
        ]

    @property
    def _name(self) -> str:
        return f"drivaerml_surface_presampled_{self.num_points}"

    @property
    def raw_file_names(self) -> list[str]:
        """The folder of the split, which unpacking makes in one step."""
        return [f"{self._name}/{self.split}"]

    @property
    def processed_dir(self) -> str:
        """A folder for each size and split."""
        return str(Path(self.root, "processed", self._name, self.split))

    @property
    def processed_file_names(self) -> list[str]:
        """The manifest, which is written last and names everything else."""
        return ["manifest.json"]

    def download(self) -> None:
        """Fetches the archive, unless it is in `raw_dir`, and unpacks it."""
        folder = Path(self.raw_dir, self._name)
        if not folder.exists():
            archive = download_from_hub(
                self.repo_id, f"{self._name}.tar.gz", self.raw_dir, self.revision
            )
            extract_archive(archive, folder)
        if not (folder / self.split).is_dir():
            raise FileNotFoundError(
                f"'{folder}' has no folder '{self.split}'. Place its run_*.npz there, "
                f"or delete '{folder}' to fetch and unpack '{self._name}.tar.gz'."
            )

    def _process(self) -> None:
        # PyG's own method unpickles `pre_transform.pt` without `weights_only`. Here
        # the description of `pre_transform` is in the manifest, which is JSON.
        check_revision(Path(self.raw_dir, f"{self._name}.tar.gz"), self.revision)
        manifest = Path(self.processed_paths[0])
        if self.force_reload or not manifest.exists():
            if self.log:
                print(f"Processing {self._name}/{self.split}...", file=sys.stderr)
            self.process()
        self._read_manifest(manifest)

    def process(self) -> None:
        """Validates and hashes every file of the split, and applies `pre_transform`."""
        names = self._run_names()
        if len(names) != self.published_sizes[self.split]:
            # Logged and not warned about: a subset of one's own is no mistake.
            logger.warning(
                "'%s' holds %d runs; the published %s split has %d.",
                self.raw_paths[0],
                len(names),
                self.split,
                self.published_sizes[self.split],
            )
        folder = Path(self.processed_dir)
        folder.mkdir(parents=True, exist_ok=True)
        # Without its manifest, an interrupted run is begun anew.
        Path(self.processed_paths[0]).unlink(missing_ok=True)
        samples: dict[str, Any] = {}
        stored: set[Path] = set()
        for name in names:
            path = Path(self.raw_paths[0], f"{name}.npz")
            content = path.read_bytes()
            data = self._build(content, path)
            if self.pre_transform is not None:
                content = serialize(self.pre_transform(data), path)
                stored.add(folder / f"{name}.pt")
                write_atomic(folder / f"{name}.pt", content)
            samples[name] = fingerprint(content)
        for left_over in set(folder.glob("run_*.pt")) - stored:
            left_over.unlink()
        write_json(
            self.processed_paths[0],
            {"pre_transform": self._described, "samples": samples},
        )

    def len(self) -> int:
        """The number of cars."""
        return len(self._names)

    def get(self, idx: int) -> Data:
        """Reads, and verifies, the car at an index."""
        name = self._names[idx]
        path = self._path(name)
        content = read_verified(path, self._samples[name])
        if self._is_stored:
            return Data.from_dict(torch.load(BytesIO(content), weights_only=True))
        return self._build(content, path)

    @property
    def _described(self) -> str | None:
        transform = self.pre_transform
        return None if transform is None else describe(transform)

    def _path(self, name: str) -> Path:
        """The file that a run is read from."""
        if self._is_stored:
            return Path(self.processed_dir, f"{name}.pt")
        return Path(self.raw_paths[0], f"{name}.npz")

    def _run_names(self) -> list[str]:
        folder = Path(self.raw_paths[0])
        runs = [re.fullmatch(r"run_(\d+)\.npz", path.name) for path in folder.iterdir()]
        matches = sorted((m for m in runs if m), key=lambda match: int(match[1]))
        if not matches:
            raise FileNotFoundError(f"'{folder}' holds no run_*.npz.")
        return [match[0].removesuffix(".npz") for match in matches]

    def _read_manifest(self, path: Path) -> None:
        manifest = read_json(path)
        samples, described = manifest.get("samples"), manifest.get("pre_transform")
        names = self._run_names()
        if not isinstance(samples, dict) or set(samples) != set(names):
            raise ValueError(
                f"'{self.raw_paths[0]}' holds other runs than when it was processed; "
                "pass force_reload=True to process it again."
            )
        if described != self._described:
            warnings.warn(
                f"'{self.processed_dir}' was processed with pre_transform={described}, "
                f"not with pre_transform={self._described}, and is used as it is. Pass "
                "force_reload=True to process it again.",
                stacklevel=5,
            )
        self._names = names
        self._samples = samples
        self._is_stored = described is not None

    def _build(self, content: bytes, path: Path) -> Data:
        centers, fields = _read_arrays(content, path)
        lower, upper = self.coordinate_bounds
        extent = torch.tensor(
            [high - low for low, high in zip(lower, upper, strict=True)]
        )
        return Data(
            x=(centers - torch.tensor(lower)) / extent,
            pos=centers,
            y=fields[:, :1].contiguous(),
            wall_shear_stress=fields[:, 1:].contiguous(),
            run=int(path.stem.removeprefix("run_")),
        )


def _read_arrays(content: bytes, path: Path) -> tuple[Tensor, Tensor]:
    """Reads and validates centres [N, 3] and fields [N, 4] of one `.npz` file."""
    keys = ("surface_mesh_centers", "surface_fields")
    try:
        with np.load(BytesIO(content), allow_pickle=False) as archive:
            centers, fields = (archive[key] for key in keys)
    except Exception as error:
        # What NumPy, zipfile or zlib raises depends on where the file is damaged.
        raise ValueError(
            f"'{path}' is not a .npz file with the arrays {' and '.join(keys)}: {error}"
        ) from error
    for key, array, columns in zip(keys, (centers, fields), (3, 4), strict=True):
        if array.dtype.kind not in "fiu":
            raise ValueError(f"'{path}': {key} is of type {array.dtype}, not real.")
        if array.ndim != 2 or array.shape[1] != columns or len(array) == 0:
            raise ValueError(
                f"'{path}': {key} must have shape (n, {columns}), got {array.shape}."
            )
    if len(centers) != len(fields):
        raise ValueError(
            f"'{path}': {keys[0]} has {len(centers)} points, {keys[1]} {len(fields)}."
        )
    tensors = []
    for key, array in zip(keys, (centers, fields), strict=True):
        with np.errstate(over="ignore"):  # too large a number becomes inf
            array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise ValueError(f"'{path}': {key} has values that are not finite.")
        tensors.append(torch.from_numpy(array))
    return tensors[0], tensors[1]
