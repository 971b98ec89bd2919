"""A data set from a folder of meshes with fields."""

import json
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare._arguments import as_path
from torch_geometric_flare._files import MESH_SUFFIXES, sha256_of
from torch_geometric_flare._precision import narrow
from torch_geometric_flare._provenance import prediction_note
from torch_geometric_flare.datasets.arrays import Array
from torch_geometric_flare.datasets.cases import Case, field_data_case, join_case
from torch_geometric_flare.datasets.mesh_files import check_writable, find_meshes
from torch_geometric_flare.datasets.records import read_json, write_json
from torch_geometric_flare.datasets.sources import ConvertedFiles
from torch_geometric_flare.datasets.split_by_name import FRACTIONS, split_by_name
from torch_geometric_flare.datasets.surrogate_arguments import (
    SurrogateArguments,
    fit_arguments,
)
from torch_geometric_flare.fields import Field, Fields, channel_slices
from torch_geometric_flare.transforms import feature_key

_LOCATIONS = ("cell", "point")
logger = logging.getLogger(__name__)
# Format of the converted files; meshes in an earlier format are read again.
_FORMAT = 4


class MeshFolder(ConvertedFiles):
    r"""Your own meshes: a folder of `.vtu`, `.vtp`, `.vtk`, `.stl`, `.ply`, `.obj`.

    Each file is a sample, and samples may differ in size. A sample has

    - `pos` [N, 3], the centers of the cells or the vertices, as in the file; [N, 2] if
      all vertices have the same $z$; in double precision if single precision would move
      or merge points of a mesh of the split, as in a national grid;
    - `y` [N, C], the concatenated arrays of `fields`, as in the file; in double
      precision if single precision would round their variation away, as in an
      absolute pressure that hardly varies;
    - each feature [N, C] under its name, or under `transforms.feature_key` of it if the
      name is reserved, such as `area`; also in double precision if needed, as for time
      stamps;
    - `u` [1, G], the concatenated `conditions`, in physical units;
    - `weight` [N], the area, volume or length that each cell or vertex represents;
      absent for points without cells;
    - for a surface mesh, `area` [N], and `normal` [N, 3] if `pos` has three
      coordinates: outward if the surface is closed.

    It has no `x`: the surrogate builds it from `pos` and the features, in training and
    prediction. `surrogate_arguments` returns the normalizers.

    A feature is, in this order, the mesh's array of that name at the chosen location,
    numbers in its field data that hold for the whole mesh (such as the speed of the
    inlet), or, if it is called `normal` or `area`, computed.

    A condition, a quantity of the whole mesh such as the speed of the inlet, is in the
    file `cases.csv` in the folder of the meshes or in the field data of the mesh. The
    table has one line per mesh, with its file name in the column `mesh`, and a column
    with the name of the condition, optionally followed by its unit:

        mesh,speed (m/s),angle_of_attack (°)
        wing_00.vtp,40,-2.5

    VTK reads no fields from `.stl`, `.ply` and `.obj`. With `fields=()` such a folder
    gives shapes without `y`; to train, save the meshes as `.vtp`.

    Each mesh is read once, in a separate process (`pip install ".[data]"`), which takes
    a second or two, and stored in `cache`, see `ConvertedFiles`. Nothing is written to
    `root`, which may be read-only, as may a `cache` that holds all samples. Files with
    other suffixes, hidden files and files in subfolders are ignored.

    Args:
        root: The folder of the meshes; `~` is the home folder.
        split: `"train"`, `"val"` or `"test"`.
        fields: The arrays to predict. A plain name, as written by a solver, is a field
            of one channel without a unit (`Field.read_from`). Otherwise the source of a
            field is the array to read, as in `Field("pressure", 1, "Pa",
            source="static-pressure (Pa)")`.
        features: The inputs in addition to the coordinates, likewise.
        conditions: Quantities of the whole mesh, likewise; their source is the name of
            their column or field data.
        broadcast: Convert the conditions to features that are the same at all points of
            a mesh, for networks without `u`.
        location: Where fields and features lie: `"cell"` or `"point"`.
        fractions: Shares of the training, validation and test split, which sum to 1.
            They are the probabilities of a mesh to be in each split.
        seed: Seed of the splits. The SHA-256 of seed and name selects the split of a
            mesh, the same on every machine, so that a mesh stays in its split when
            others are added. An empty split of a small folder borrows a mesh, which
            `borrowed_*.json` in `cache` records.
        transform: Applied to each sample on access.
        pre_transform: Applied once to each sample; the result is stored.
        force_reload: Whether to read the meshes again.
        cache: Folder for stored files; by default the path of `root` with `_processed`
            appended.
        suffixes: Suffixes of the files to read, any of those that `mesh_io.read_mesh`
            takes.
        block: The block of every file, as for `mesh_io.read_mesh`.
        time: The time step of every file, likewise.
        check: Whether to check the meshes of all splits first, see
            `data_checks.check_meshes`. It reads every mesh again; warnings are logged.

    Raises:
        FileNotFoundError: If `root` is not a folder or holds no meshes.
        OSError: If samples must be stored and `cache` cannot be written to.
        ValueError: If an argument is invalid, there are too few meshes for the splits,
            or a file is malformed, was written by a prediction, or lacks an array or a
            condition, or has one in another unit. The message names the file, the array
            and those found. With `check`, if a check finds an error; the message is the
            table of all errors.
    """

    # Only the names of the splits; there are no published sizes.
    published_sizes: ClassVar[Mapping[str, int]] = {"train": 0, "val": 0, "test": 0}
    array_names = ("pos", "y", "features", "normal", "area", "weight")

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        *,
        fields: Iterable[Field | str],
        features: Iterable[Field | str] = (),
        conditions: Iterable[Field | str] = (),
        broadcast: bool = False,
        location: str = "cell",
        fractions: Sequence[float] = FRACTIONS,
        seed: int = 0,
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        force_reload: bool = False,
        cache: str | os.PathLike[str] | None = None,
        suffixes: Sequence[str] = MESH_SUFFIXES,
        block: str | None = None,
        time: float | None = None,
        check: bool = False,
    ) -> None:
        if location not in _LOCATIONS:
            raise ValueError(f"location must be 'cell' or 'point', got {location!r}.")
        self.fields = _as_fields("fields", fields)
        self.features = _as_fields("features", features)
        self._inputs = self.features
        self._conditions = _as_fields("conditions", conditions)
        # Raises ValueError if two names are equal.
        channel_slices((*self.fields, *self.features, *self._conditions))
        self.broadcast = broadcast
        self.conditions = () if broadcast else self._conditions
        if broadcast:
            self.features += self._conditions
        self.location = location
        self.seed = seed
        self.fractions = _check_fractions(fractions)
        part = {"block": block, "time": time}
        self.part: dict[str, Any] = {
            key: value for key, value in part.items() if value is not None
        }
        folder = as_path(root)
        self._mesh_names = find_meshes(folder, suffixes)
        self._cases: dict[str, Case] = {}
        if self._conditions:
            from torch_geometric_flare import mesh_io

            self._table = folder / mesh_io.CASES_TABLE
            if self._table.is_file():
                self._cases = mesh_io.read_cases(
                    self._table, self._conditions, self._mesh_names
                )
        beside = folder.with_name(f"{folder.name}_processed")
        self._cache_dir = beside if cache is None else as_path(cache)
        self.root, self.split = folder, split
        if force_reload or not Path(self.processed_paths[0]).is_file():
            check_writable(self._cache_dir, folder)
        if check:
            self._check()
        super().__init__(folder, split, None, transform, pre_transform, force_reload)

    @property
    def raw_dir(self) -> str:
        """The folder of the meshes: `root` itself."""
        return str(self.root)

    @property
    def raw_file_names(self) -> list[str]:
        """The meshes of all splits."""
        return self._mesh_names

    @property
    def name(self) -> str:
        """Folder for this choice of arrays, shares and seed."""
        chosen = ["broadcast"] if self.broadcast else []
        return f"{self._converted_name}_{_digest(self.fractions, self.seed, *chosen)}"

    @property
    def converted_dir(self) -> Path:
        """Folder of the converted meshes, the same for all splits and seeds."""
        return self.cache_dir / self._converted_name

    @property
    def cache_dir(self) -> Path:
        """Folder of the processed files."""
        return self._cache_dir

    @property
    def _converted_name(self) -> str:
        groups = [self.fields, self._inputs]
        if self._conditions:
            groups.append(self._conditions)
        arrays = [
            [(field.name, field.channels, field.source) for field in group]
            for group in groups
        ]
        chosen = [self.part] if self.part else []
        return f"{self.location}s_{_digest(_FORMAT, arrays, *chosen)}"

    def hub_files(self) -> tuple[str, ...]:
        """Return nothing; the files are local."""
        return ()

    def sample_files(self) -> dict[str, tuple[Path, ...]]:
        """Return the mesh file of each sample of the split, by file name."""
        names = self._names_of_splits()[self.split]
        if not names:
            raise ValueError(
                f"the {self.split} split of '{self.root}' is empty, as fractions="
                f"{self.fractions}: give it a share above zero."
            )
        return {name: (Path(self.root, name),) for name in names}

    def _names_of_splits(self) -> dict[str, list[str]]:
        path = self.cache_dir / f"borrowed_{_digest(self.fractions, self.seed)}.json"
        borrowed = read_json(path) if path.exists() else {}
        splits = split_by_name(self._mesh_names, self.fractions, self.seed, borrowed)
        if splits.borrowed != borrowed:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, splits.borrowed)
        return splits.names

    def _check(self) -> None:
        """Raise `ValueError` if the checks of the folder find an error."""
        from torch_geometric_flare.data_checks import check_meshes

        report = check_meshes(
            {
                split: [Path(self.root, name) for name in names]
                for split, names in self._names_of_splits().items()
            },
            arrays=[(self.location, field.array) for field in self.fields],
            part=self.part,
        )
        errors = report.only("error")
        if errors.findings:
            raise ValueError(f"'{self.root}' has errors:\n{errors}")
        for finding in report.findings:
            logger.warning(
                "%s, %s: %s", finding.mesh or "all", finding.what, finding.detail
            )

    def convert(self, name: str) -> dict[str, Array]:
        """Read a mesh and its arrays."""
        from torch_geometric_flare import mesh_io

        path = Path(self.root, name)
        mesh = mesh_io.read_mesh(path, **self.part)
        if note := prediction_note(mesh):
            raise ValueError(f"'{path}' is not data, but {note}: move it elsewhere")
        cells = self.location == "cell"
        data = mesh.cell_data if cells else mesh.point_data
        try:
            inputs = mesh_io.find_features(mesh, self._inputs, cells=cells)
            case = field_data_case(mesh, self._conditions)
        except ValueError as error:
            raise ValueError(f"'{path}': {error}. {_found(mesh, path)}") from error
        pos = narrow((mesh.cell_centers() if cells else mesh).points)
        flat = bool((mesh.points[:, 2] == mesh.points[0, 2]).all())
        size = len(pos)
        columns = [
            _field_values(mesh, data, field, self.location, path)
            for field in self.fields
        ]
        surface = mesh_io.is_surface(mesh)
        normal, area = np.empty((0, 3), np.float32), np.empty(0, np.float32)
        if surface:
            area = mesh_io.mesh_areas(mesh, cells=cells).numpy()[:, 0]
        weight = mesh_io.mesh_weights(mesh, cells=cells)
        if surface and not flat:
            normal = mesh_io.mesh_normals(mesh, cells=cells).numpy()
        no_features = torch.empty(size, 0, dtype=torch.float32)
        return {
            "pos": pos[:, :2] if flat else pos,
            "y": np.concatenate([np.empty((size, 0), np.float32), *columns], axis=1),
            "features": torch.cat([no_features, *inputs.values()], 1).numpy(),
            "normal": normal,
            "area": area,
            "weight": np.empty(0, np.float32) if weight is None else weight.numpy(),
            **({"case": case} if self._conditions else {}),
        }

    def make_sample(self, arrays: Mapping[str, Array], name: str) -> Data:
        """Return a sample from its converted arrays."""
        tensors = {key: torch.from_numpy(arrays[key]) for key in self.array_names}
        if self._conditions:
            tensors["u"] = torch.from_numpy(self._case(name, arrays))
        for key in self._in_double:  # in all samples, because they are batched together
            tensors[key] = tensors[key].double()
        features = tensors.pop("features")
        data = Data(**{key: value for key, value in tensors.items() if value.numel()})
        for feature, columns in channel_slices(self._inputs).items():
            data[feature_key(feature)] = features[:, columns]
        if not (self.broadcast and self._conditions):
            return data
        for condition, columns in channel_slices(self._conditions).items():
            rows = data.u[:, columns].expand(len(data.pos), -1)
            data[feature_key(condition)] = rows.contiguous()
        del data.u
        return data

    def _case(self, name: str, arrays: Mapping[str, Array]) -> Array:
        """Return the conditions of a mesh, [1, G]."""
        case, path = self._cases.get(name), Path(self.root, name)
        joined = join_case(case, arrays["case"], self._conditions, path, self._table)
        return narrow(joined)

    def _changed_samples(self) -> set[str]:
        samples = read_json(self.processed_paths[0]).get("samples")
        previous = samples if isinstance(samples, dict) else {}
        changed = {
            name
            for name, entry in previous.items()
            if isinstance(entry, dict) and entry.get("case") != self._cases.get(name)
        }
        return (
            changed | (set(previous) ^ set(self._files())) | super()._changed_samples()
        )

    @property
    def _in_double(self) -> set[str]:
        """Arrays that are in double precision in at least one sample of the split."""
        if not hasattr(self, "_in_double_of_split"):
            if not hasattr(self, "_samples"):  # while the split is processed
                return set()
            self._in_double_of_split = {
                key for entry in self._samples.values() for key in entry["in_double"]
            }
        return self._in_double_of_split

    def _notes(self, name: str, arrays: Mapping[str, Array]) -> dict[str, Any]:
        double = [k for k in self.array_names if arrays[k].dtype == np.float64]
        notes = {**super()._notes(name, arrays), "in_double": double}
        if self._conditions:
            if self._case(name, arrays).dtype == np.float64:
                double.append("u")
            notes["case"] = self._cases.get(name)
        return notes

    def surrogate_arguments(self) -> SurrogateArguments:
        """Return fields, inputs and statistics of the training split.

        Coordinates are scaled from their bounds to [0, 1]; features, conditions and
        fields to zero mean and unit standard deviation. All samples are read, without
        `transform`.

        Returns:
            Arguments of `SurrogateModule` and `Surrogate`, by name.

        Raises:
            ValueError: If this is not the training split, or there are no fields.
        """
        if self.split != "train":
            raise ValueError(
                f"split={self.split!r}: normalizers are fitted on the training split "
                "alone. Call surrogate_arguments of the split 'train'."
            )
        if not self.fields:
            raise ValueError("fields is empty: there is nothing to train on.")
        return fit_arguments(
            self._stored_samples,
            self.coordinate_bounds(),
            fields=self.fields,
            features=self.features,
            conditions=self.conditions,
            location=self.location,
        )

    def coordinate_bounds(self) -> tuple[Tensor, Tensor]:
        """Return the bounding box of all points of this split.

        Returns:
            Lower and upper corner, $[D]$ each, in the unit of the meshes.

        Raises:
            ValueError: If some meshes are flat and others are not.
        """
        boxes = [(d.pos.amin(0), d.pos.amax(0)) for d in self._stored_samples()]
        for index, (low, _) in zip(self.indices(), boxes, strict=True):
            if len(low) != len(boxes[0][0]):
                raise ValueError(
                    f"'{self.source(self._names[index])}' has {len(low)} coordinates, "
                    f"but '{self.source(self._names[self.indices()[0]])}' has "
                    f"{len(boxes[0][0])}: a mesh with the same z everywhere counts as "
                    "flat. Put flat meshes into their own folder."
                )
        return (
            torch.stack([low for low, _ in boxes]).amin(0),
            torch.stack([high for _, high in boxes]).amax(0),
        )

    def _stored_samples(self) -> Iterator[Data]:
        return (self.get(index) for index in self.indices())

    def _log_size(self, size: int) -> None:
        """Do nothing; no sizes are published."""


def _as_fields(argument: str, given: Iterable[Field | str]) -> Fields:
    """Return fields; a plain name becomes a field of one channel without a unit."""
    if isinstance(given, str | Field):
        raise ValueError(f"{argument} is {given!r}: pass a list, as [{given!r}].")
    fields = tuple(
        Field.read_from(each) if isinstance(each, str) else each for each in given
    )
    for field in fields:
        if not isinstance(field, Field):
            raise ValueError(
                f"{argument} holds {field!r}, expected a Field such as "
                "Field('velocity', 3, 'm/s'), or a name."
            )
    return fields


def _check_fractions(fractions: Sequence[float]) -> tuple[float, ...]:
    shares = tuple(map(float, fractions))
    whole = len(shares) == 3 and math.isclose(sum(shares), 1, abs_tol=1e-6)
    if not whole or min(shares) < 0 or shares[0] == 0:
        raise ValueError(
            "fractions must be three shares of sum 1, for training, validation and "
            f"test, the first above zero, got {fractions!r}."
        )
    return shares


def _field_values(
    mesh: Any, data: Any, field: Field, location: str, path: Path
) -> Array:
    """Return an array of the mesh, [N, C]."""
    name = field.array
    if name not in data:
        raise ValueError(
            f"'{path}' has no {location} data {name!r}. {_found(mesh, path)}. To read "
            f"another array, pass Field({field.name!r}, source=ARRAY)"
        )
    array = np.asarray(data[name])
    if array.dtype.kind not in "fiu":
        raise ValueError(f"'{path}': the {location} data {name!r} are not numbers")
    values = narrow(array.reshape(len(array), -1))
    if values.shape[1] != field.channels:
        raise ValueError(
            f"'{path}': the {location} data {name!r} have {values.shape[1]} channels, "
            f"not {field.channels}: pass Field({field.name!r}, {values.shape[1]}, unit)"
        )
    return values


def _found(mesh: Any, path: Path) -> str:
    """Describe the arrays that a mesh has."""
    arrays = {
        "cell": list(mesh.cell_data),
        "point": list(mesh.point_data),
        "field": list(mesh.field_data),
    }
    text = "; ".join(
        f"{kind} data: {names or 'none'}" for kind, names in arrays.items()
    )
    if path.suffix.lower() in (".stl", ".ply", ".obj"):
        text += f" (VTK reads no fields from {path.suffix}: save it as .vtp)"
    return f"It has {text}"


def _digest(*values: object) -> str:
    """Return a short hash of plain values that is the same in every process."""
    return sha256_of(json.dumps(values).encode())[:8]
