"""Metal parts printed by laser powder bed fusion: deformation, stress, temperature."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare.datasets.arrays import Array, to_tensor
from torch_geometric_flare.datasets.hub import list_hub_files
from torch_geometric_flare.datasets.records import read_json, write_json
from torch_geometric_flare.datasets.sources import FilePerSample
from torch_geometric_flare.datasets.stored import MeshData
from torch_geometric_flare.fields import Field, Fields, choose_fields
from torch_geometric_flare.transforms import Normalizer, make_input


class LPBF(FilePerSample):
    r"""Parts printed by laser powder bed fusion: one hexahedral mesh per sample.

    The set of the FLARE paper (<https://arxiv.org/abs/2508.12594>),
    `vedantpuri/LPBF_FLARE` on the Hugging Face hub: simulated parts of 736 to 47,542
    points in a build volume of 30 mm × 30 mm × 60 mm, 1,100 to train on and 290 to
    test.

    A sample has

    - `x` [N, 3], the coordinates scaled by `coordinate_bounds`, `pos / (30, 30, 60)`;
    - `pos` [N, 3], the points in mm, $z$ along the build direction;
    - `y` [N, C], the concatenated `fields`, as in the file;
    - `displacement` [N, 3] in mm, `von_mises_stress` [N, 1] and `temperature` [N, 1];
      the files do not state the units of these two;
    - `edge_index` [2, E], the edges of the mesh, and `cells` [E, 8], the points of its
      hexahedra.

    Samples are sorted by the names of their files, and each is read from disk on
    access. The pickled `_metadata` of the files is never read.

    The files are downloaded one by one (`pip install ".[data]"`) on first use of a
    split; an interrupted download is resumed. Without a connection, manually place them
    at `root/raw/LPBF_FLARE/{train,test}/*.npz`; the index (`.parquet`) is not needed.

    Files are verified when read, and the result of `pre_transform` is stored, see
    `VerifiedDataset`.

    The relative $L_2$ error of the displacement is `metrics.relative_l2`. Published
    results for this set use another metric, `metrics.legacy_lpbf_error`.

    Args:
        root: The folder for the files.
        split: `"train"` or `"test"`.
        revision: The commit, tag or branch of the hub's repository; `None` takes the
            latest. Files downloaded earlier must belong to that revision.
        transform: Applied to each sample on access.
        pre_transform: Applied once to each sample; the result is stored.
        force_reload: Whether to process the files again. To download again, delete the
            files in `root/raw`.
        fields: Names of the targets, in the order of their columns in `y`, among
            `"displacement_z"`, `"displacement"`, `"von_mises_stress"` and
            `"temperature"`.

    Raises:
        ValueError: If an argument is invalid, or if a file is malformed or has changed.
        FileNotFoundError: If the hub or the folder has no such files.
        ConnectionError: If files are missing and the hub cannot be reached.
    """

    repo_id: ClassVar[str] = "vedantpuri/LPBF_FLARE"
    hub_folder = "LPBF_FLARE"
    array_names = ("pos", "disp", "vmstr", "temp", "edge_index", "elems")
    published_sizes: ClassVar[dict[str, int]] = {"train": 1100, "test": 290}

    available_fields: ClassVar[Fields] = (
        Field("displacement_z", 1, "mm"),
        Field("displacement", 3, "mm"),
        Field("von_mises_stress", 1),
        Field("temperature", 1),
    )
    """The available targets."""
    coordinate_bounds: ClassVar[
        tuple[tuple[float, float, float], tuple[float, float, float]]
    ] = ((0.0, 0.0, 0.0), (30.0, 30.0, 60.0))
    """Lower and upper corner, in mm, of the box that `x` maps to the unit cube."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        revision: str | None = None,
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        force_reload: bool = False,
        fields: Sequence[str] = ("displacement_z",),
    ) -> None:
        self.fields = choose_fields(fields, self.available_fields)
        super().__init__(root, split, revision, transform, pre_transform, force_reload)

    @property
    def name(self) -> str:
        """Subfolder of `root/processed`."""
        return "lpbf"

    @property
    def raw_file_names(self) -> list[str]:
        """The files of the split if they are downloaded, otherwise its folder."""
        names = self._listed() if self._listing.exists() else [self.split]
        return [f"{self.hub_folder}/{name}" for name in names]

    def hub_files(self) -> Iterator[str]:
        """Return the files of the split, as listed by the hub."""
        if not self._listing.exists():
            if self._folder.exists():  # placed manually
                yield self.split
                return
            names = list_hub_files(
                self.repo_id, f"{self.split}/*.npz", self._folder.parent, self.revision
            )
            self._listing.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._listing, {"files": names})
        yield from self._listed()

    def sample_paths(self) -> list[Path]:
        """Return the files of the split, sorted by name."""
        paths = sorted(
            path for path in self._folder.glob("*.npz") if not path.name.startswith(".")
        )
        if not paths:
            raise FileNotFoundError(f"'{self._folder}' holds no *.npz.")
        return paths

    def make_sample(self, arrays: Mapping[str, Array], name: str) -> Data:
        """Return a sample from the arrays of its file."""
        path = self.source(name)
        columns = {"pos": 3, "disp": 3, "vmstr": 1, "temp": 1}
        values = {
            key: to_tensor(arrays[key], channels, f"'{path}': {key}")
            for key, channels in columns.items()
        }
        sizes = {key: len(value) for key, value in values.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(
                f"'{path}' has arrays of different numbers of points: {sizes}."
            )
        size = sizes["pos"]
        edges = _point_numbers(
            arrays["edge_index"], (2, None), size, f"'{path}': edge_index"
        )
        named = {
            "displacement_z": values["disp"][:, 2:],
            "displacement": values["disp"],
            "von_mises_stress": values["vmstr"],
            "temperature": values["temp"],
        }
        data = MeshData(
            pos=values["pos"],
            y=torch.cat([named[field.name] for field in self.fields], dim=1),
            displacement=named["displacement"],
            von_mises_stress=named["von_mises_stress"],
            temperature=named["temperature"],
            edge_index=edges,
            cells=_point_numbers(arrays["elems"], (None, 8), size, f"'{path}': elems"),
        )
        bounds = Normalizer.from_bounds(*self.coordinate_bounds)
        data.x = make_input(data, coordinate_normalizer=bounds)
        return data

    @property
    def _folder(self) -> Path:
        return Path(self.raw_dir, self.hub_folder, self.split)

    @property
    def _listing(self) -> Path:
        return Path(self.raw_dir, self.hub_folder, f"{self.split}_files.json")

    def _listed(self) -> list[str]:
        names = read_json(self._listing).get("files")
        if not isinstance(names, list) or not all(
            isinstance(name, str) and Path(name).parent == Path(self.split)
            for name in names
        ):
            raise ValueError(
                f"'{self._listing}' lists no files of the split; delete it."
            )
        return names


def _point_numbers(
    array: Array, shape: tuple[int | None, int | None], size: int, what: str
) -> Tensor:
    """Return an array of point indices; `None` in the shape matches any length."""
    fits = array.ndim == 2 and all(
        wanted in (None, found)
        for found, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits or array.dtype.kind not in "iu":
        text = ", ".join("n" if wanted is None else str(wanted) for wanted in shape)
        raise ValueError(
            f"{what} must be integers of the shape ({text}), got the shape "
            f"{array.shape} of {array.dtype}."
        )
    if array.size and (array.min() < 0 or array.max() >= size):
        raise ValueError(
            f"{what} names the points {array.min()} to {array.max()}, but there are "
            f"{size}, from 0."
        )
    return torch.from_numpy(array.astype(np.int64))
