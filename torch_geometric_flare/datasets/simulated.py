"""Data sets that are simulated on first use."""

import dataclasses
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch_geometric.data import Data, Dataset

from torch_geometric_flare._arguments import (
    as_path,
    brief,
    check_integers,
    check_kind,
    describe,
)
from torch_geometric_flare._files import sha256_of, write_atomic
from torch_geometric_flare.datasets.records import (
    read_json,
    write_json,
)
from torch_geometric_flare.datasets.simulated_files import (
    num_points,
    read_sample,
    remove_leftovers,
    sample_file,
    simulate_files,
)
from torch_geometric_flare.datasets.simulator import (
    QUERY,
    RESERVED,
    Bounds,
    PointSet,
    Simulator,
    conditions_of,
)
from torch_geometric_flare.datasets.stored import serialize
from torch_geometric_flare.fields import Fields, channel_slices

_FORMAT = 2


class SimulatedDataset(Dataset):
    r"""Samples of a simulator, simulated once and then read from disk one by one.

    A sample has `x` [N, D + F], the coordinates scaled by `coordinate_bounds` and then
    the features; `pos` [N, D], in the unit of the simulator; `y` [N, C], the
    concatenated targets, in physical units; each feature under its name; `u` [1, G],
    the conditions of the whole sample in physical units, if the simulator has any; and,
    if the simulator returns them, `normal`, `area`, `cells`, `edge_index`, and `grid`
    as a tuple (H, W). All real numbers are in single precision. Query points that a
    simulator also returns have the same names with the prefix `query_`: `query_x`,
    `query_pos`, `query_y`, and their features.

    Every sample has a separate file and random state, so an interrupted run resumes
    where it stopped, and a larger `num_samples` adds only the new samples. Files are in
    `root/<name>-<hash>/<split>`, with a hash of the simulator's parameters and `seed`;
    `manifest.json` in this folder lists them. A `pre_transform` is applied once, in
    this process; its results are stored in a subfolder.

    A solution that did not converge (`simulation.NotConverged`) is discarded: its
    sample is drawn again, at most nine times, from `sample_rng(seed, split, index,
    attempt)`. A warning of `logging` counts these, and the sample's file holds their
    number as `redraws`.

    Worker processes are spawned and import the main script again, so a script must
    guard its code with `if __name__ == "__main__":`. Each worker uses a single thread.

    Args:
        root: Folder for simulated data sets.
        simulator: The physics, for example `simulation.Notchback()`; see `Simulator`.
        num_samples: Size of the split.
        split: Name of the split; each split draws different samples.
        seed: Seed of all splits.
        num_workers: Number of worker processes: by default one per core that this
            process may use; 0 to simulate in this process.
        transform: Applied to each sample on access.
        pre_transform: Applied to a sample once, before it is stored. It is identified
            by its `repr` without addresses: pass `force_reload=True` after an edit that
            the `repr` does not show.
        force_reload: Whether to simulate these samples again; further samples from a
            larger `num_samples` are kept.

    Raises:
        ValueError: If an argument is out of range, or the content of the folder does
            not match its name.
        RuntimeError: If the simulator fails, or none of ten draws of a sample
            converges; the message names the sample.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        simulator: Simulator,
        num_samples: int,
        split: str = "train",
        seed: int = 0,
        num_workers: int | None = None,
        transform: Callable[[Any], Any] | None = None,
        pre_transform: Callable[[Any], Any] | None = None,
        force_reload: bool = False,
    ) -> None:
        check_kind((str, os.PathLike), "the path of a folder", root=root)
        check_kind(str, "the name of a split", split=split)
        check_integers(1, num_samples=num_samples)
        check_integers(0, seed=seed)
        if num_workers is not None:
            check_integers(0, num_workers=num_workers)
        if not hasattr(simulator, "sample") or not hasattr(simulator, "fields"):
            raise TypeError(
                f"simulator is {brief(simulator)}, expected one such as "
                "simulation.Notchback()"
            )
        if not re.fullmatch(r"[A-Za-z0-9_]+", split):
            raise ValueError(
                f"split names a folder: use letters, digits and '_', got {split!r}."
            )
        self.simulator = simulator
        self.num_samples = num_samples
        self.split = split
        self.seed = seed
        self.num_workers = _num_cores() if num_workers is None else num_workers
        self._manifest = _manifest(simulator, seed)
        _, self._query = [*PointSet.of(simulator), None][:2]
        super().__init__(
            str(as_path(root)), transform, pre_transform, force_reload=force_reload
        )
        self._samples = Path(self.processed_dir)
        self._prepare()

    @property
    def fields(self) -> Fields:
        """The columns of `y`."""
        return self.simulator.fields

    @property
    def features(self) -> Fields:
        """The columns of `x` after the coordinates."""
        return self.simulator.features

    @property
    def conditions(self) -> Fields:
        """The columns of `u`."""
        return conditions_of(self.simulator)

    @property
    def coordinate_bounds(self) -> Bounds | None:
        """Corners of the box, in the unit of `pos`, that `x` maps to [0, 1]."""
        return self.simulator.coordinate_bounds

    @property
    def query_fields(self) -> Fields:
        """The columns of `query_y`; empty without query points."""
        return () if self._query is None else self._query.fields

    @property
    def query_features(self) -> Fields:
        """The columns of `query_x` after the coordinates."""
        return () if self._query is None else self._query.features

    @property
    def query_coordinate_bounds(self) -> Bounds | None:
        """Corners of the box, in the unit of `query_pos`, that maps to [0, 1].

        `None` if coordinates are not scaled, or there are no query points.
        """
        return None if self._query is None else self._query.coordinate_bounds

    @property
    def sizes(self) -> list[int]:
        """Points of each sample before `transform`; no array is read."""
        return [
            num_points(self._samples / self._file_name(index))
            for index in self.indices()
        ]

    @property
    def folder(self) -> Path:
        """Folder of all splits of this simulator with these parameters and seed."""
        name = re.sub(r"[^A-Za-z0-9_]", "_", self.simulator.name)
        if "simulated" not in name:
            name = f"simulated_{name}"
        return Path(self.root) / f"{name}-{_digest(json.dumps(self._manifest))}"

    @property
    def raw_dir(self) -> str:
        """Folder of the samples as simulated."""
        return str(self.folder / self.split)

    @property
    def processed_dir(self) -> str:
        """Folder of the samples as read: `raw_dir` without a `pre_transform`."""
        if self.pre_transform is None:
            return self.raw_dir
        label = _digest(describe(self.pre_transform))
        return os.path.join(self.raw_dir, f"pre_transform-{label}")

    @property
    def raw_file_names(self) -> list[str]:
        """One file per sample."""
        return [sample_file(index) for index in range(self.num_samples)]

    @property
    def processed_file_names(self) -> list[str]:
        """One file per sample."""
        return [self._file_name(index) for index in range(self.num_samples)]

    def len(self) -> int:
        """Return the number of samples of the split."""
        return self.num_samples

    def get(self, idx: int) -> Data:
        """Read one sample, before `transform`."""
        return self._read(self._samples / self._file_name(idx))

    def _read(self, path: Path) -> Data:
        return read_sample(path, self.fields, self.conditions, self.query_fields)

    def _file_name(self, index: int) -> str:
        name = sample_file(index)
        return name if self.pre_transform is None else f"{name}.pt"

    # PyG's `download` and `process` hooks store pickles; without these hooks it leaves
    # the folders alone.
    def _prepare(self) -> None:
        self._check_manifest()
        raw = Path(self.raw_dir)
        self._samples.mkdir(parents=True, exist_ok=True)
        if self.force_reload:
            for name in self.raw_file_names:
                for path in [raw / name, *raw.glob(f"pre_transform-*/{name}.pt")]:
                    path.unlink(missing_ok=True)
        missing = [
            index
            for index in range(self.num_samples)
            if not (raw / sample_file(index)).exists()
        ]
        if missing:
            simulate_files(
                self.simulator, self.seed, self.split, raw, missing, self.num_workers
            )
        if self.pre_transform is not None:
            self._store_transformed(raw, self.pre_transform)
        for folder in {raw, self._samples}:
            remove_leftovers(folder)

    def _check_manifest(self) -> None:
        path = self.folder / "manifest.json"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, self._manifest)
        stored = read_json(path)
        if stored != self._manifest:
            raise ValueError(
                f"'{path}' describes other data ({stored}) than was asked for "
                f"({self._manifest}): delete the folder '{path.parent}' or choose "
                "another root."
            )

    def _store_transformed(
        self, raw: Path, pre_transform: Callable[[Any], Any]
    ) -> None:
        note = self._samples / "pre_transform.txt"
        note.write_text(
            f"simulated samples after {describe(pre_transform)}\n", encoding="utf-8"
        )
        for index in range(self.num_samples):
            target = self._samples / self._file_name(index)
            if not target.exists():
                source = raw / sample_file(index)
                data = pre_transform(self._read(source))
                write_atomic(target, serialize(data, source))


def _num_cores() -> int:
    """Return the number of cores that this process may use, fewer in a container."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _manifest(simulator: Simulator, seed: int) -> dict[str, Any]:
    sets = PointSet.of(simulator)
    conditions = conditions_of(simulator)
    try:
        manifest: dict[str, Any] = {
            "data": "simulated",
            "format": _FORMAT,
            "simulator": simulator.name,
            "parameters": _parameters(simulator),
        }
        for points in sets:
            for name in ("fields", "features"):
                described = [field.to_dict() for field in getattr(points, name)]
                manifest[points.prefix + name] = described
        # The hash in the folder name depends on the order of the entries.
        manifest["seed"] = seed
        if conditions:
            manifest["conditions"] = [field.to_dict() for field in conditions]
        as_read: dict[str, Any] = json.loads(json.dumps(manifest))
    except TypeError as error:
        raise ValueError(
            "simulator must be an instance of a dataclass whose fields JSON can hold, "
            f"got {simulator!r}."
        ) from error
    for points in sets:
        of_sample = () if points.prefix else conditions
        names = channel_slices((*points.fields, *points.features, *of_sample))
        mixed = len(sets) > 1 and any(name.startswith(QUERY) for name in names)
        if not points.fields or mixed or not set(names).isdisjoint(RESERVED):
            raise ValueError(
                "simulator must have at least one target in `fields`, and none may be "
                f"called one of {list(RESERVED)} or, with query points, start with "
                f"{QUERY!r}, got {points.prefix}fields={points.fields} and "
                f"{points.prefix}features={points.features} and "
                f"conditions={of_sample}."
            )
    return as_read


def _parameters(simulator: Any) -> dict[str, Any]:
    """Return the parameters of a simulator.

    A parameter added later, marked by `omit_default` in its metadata, is omitted if it
    has its default, so that earlier files keep their folder.
    """
    values = dataclasses.asdict(simulator)
    for entry in dataclasses.fields(simulator):
        if entry.metadata.get("omit_default") and values[entry.name] == entry.default:
            del values[entry.name]
    return values


def _digest(text: str) -> str:
    return sha256_of(text.encode())[:12]
