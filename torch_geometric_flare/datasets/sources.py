"""Base classes of verified data sets: file per sample, converted files, or arrays."""

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from torch_geometric_flare._files import file_sha256, write_atomic
from torch_geometric_flare.datasets.arrays import Array, read_npz
from torch_geometric_flare.datasets.records import (
    Fingerprint,
    check_fingerprint,
    fingerprint,
    fingerprint_arrays,
    read_json,
    read_verified,
)
from torch_geometric_flare.datasets.verified import VerifiedDataset

_SOURCES, _HASHES = "source_sizes_and_times", "source_hashes"

logger = logging.getLogger(__name__)


class FilePerSample(VerifiedDataset):
    r"""Base class of data sets with one `.npz` file per sample.

    A whole file is read, and its bytes are verified before arrays are parsed. In
    addition to `VerifiedDataset`'s interface, a subclass defines `array_names` and
    `sample_paths`.
    """

    array_names: ClassVar[tuple[str, ...]]
    """The arrays to read; all others in a file are ignored."""

    @abstractmethod
    def sample_paths(self) -> list[Path]:
        """Return the files of the split in the order of the samples.

        Their stems are the names of the samples.

        Raises:
            FileNotFoundError: If there are none.
        """

    def sample_names(self) -> list[str]:
        """Return the stems of the files of the split, in order."""
        return list(self._files())

    def _files(self) -> dict[str, Path]:
        if not hasattr(self, "_paths"):
            paths = self.sample_paths()
            self._paths = {path.stem: path for path in paths}
            if len(self._paths) < len(paths):
                raise ValueError(
                    f"'{self.raw_dir}' holds two samples of one name in the "
                    f"{self.split} split: rename one."
                )
        return self._paths

    def source(self, name: str) -> Path:
        """Return the file of a sample."""
        return self._files()[name]

    def _read_arrays(
        self, name: str, expected: Fingerprint | None
    ) -> tuple[Mapping[str, Array], Fingerprint]:
        path = self.source(name)
        if expected is None:
            content = path.read_bytes()
            expected = fingerprint(content)
        else:
            content = read_verified(path, expected)
        return read_npz(content, path, self.array_names), expected


class ConvertedFiles(VerifiedDataset):
    r"""Base class of data sets whose samples are converted to `.npz` files.

    For meshes and other files that are large or slow to read: `convert` reads them
    once, and later the arrays are read from `converted_dir` and verified. The raw files
    must remain. A changed file is converted again when the data set is opened: if its
    size or time differs, its SHA-256 is compared. An interrupted run keeps the files
    that it has converted.

    In addition to `VerifiedDataset`'s interface, a subclass defines `array_names`,
    `sample_files` and `convert`.
    """

    array_names: ClassVar[tuple[str, ...]]
    """The arrays that `convert` returns."""

    @abstractmethod
    def sample_files(self) -> Mapping[str, tuple[Path, ...]]:
        """Return the raw files of each sample of the split, by its name, in order.

        Raises:
            FileNotFoundError: If there are no samples.
        """

    @abstractmethod
    def convert(self, name: str) -> Mapping[str, Array]:
        """Return the arrays of a sample, read from its raw files.

        Raises:
            FileNotFoundError: If a raw file is missing.
            ValueError: If a raw file is malformed. The message names it.
        """

    @property
    def converted_dir(self) -> Path:
        """Folder of the converted files, shared by the splits."""
        return self.cache_dir / self.name / "converted"

    def sample_names(self) -> list[str]:
        """Return the names of the samples of the split, in order."""
        return list(self._files())

    def source(self, name: str) -> Path:
        """Return the first of the raw files of a sample."""
        return self._files()[name][0]

    def _files(self) -> Mapping[str, tuple[Path, ...]]:
        if not hasattr(self, "_sample_files"):
            self._sample_files = self.sample_files()
        return self._sample_files

    def _process(self) -> None:
        if not self.force_reload and Path(self.processed_paths[0]).is_file():
            changed = self._changed_samples()
            if changed:
                logger.warning(
                    "'%s': %d samples have changed since they were read, such as %r: "
                    "reading them again.",
                    self.root,
                    len(changed),
                    min(changed),
                )
                self.process()
        super()._process()

    def _changed_samples(self) -> set[str]:
        """Return the samples whose files differ from the manifest."""
        samples = read_json(self.processed_paths[0]).get("samples")
        if not isinstance(samples, dict):
            return set()  # Reading the manifest raises the error.
        return {
            name
            for name, files in self._files().items()
            if isinstance(entry := samples.get(name), dict)
            and all(file.is_file() for file in files)
            and _have_changed(files, entry.get("sources"))
        }

    def _notes(self, name: str, arrays: Mapping[str, Array]) -> dict[str, Any]:
        hashes = arrays.get(_HASHES)
        if hashes is None:  # converted before they were kept
            hashes = _hashes(self._files()[name])
        sources = [
            [*map(int, source), bytes(digest).hex()]
            for source, digest in zip(arrays[_SOURCES], hashes, strict=True)
        ]
        return {"sources": sources}

    def _read_arrays(
        self, name: str, expected: Fingerprint | None
    ) -> tuple[Mapping[str, Array], Fingerprint]:
        path = self.converted_dir / f"{name}.npz"
        if expected is not None:
            return read_npz(read_verified(path, expected), path), expected
        files = self._files()[name]
        for file in files:
            if not file.is_file():
                raise FileNotFoundError(f"'{file}' is missing: place it there.")
        sources = np.array([_size_and_times(file) for file in files])
        hashes: Array | None = None
        if path.exists() and not self.force_reload:
            content = path.read_bytes()
            arrays = read_npz(content, path)
            same = np.array_equal(arrays.get(_SOURCES, ()), sources)
            if not same and _HASHES in arrays:
                hashes = _hashes(files)
                same = np.array_equal(arrays[_HASHES], hashes)
            if same:
                return {**arrays, _SOURCES: sources}, fingerprint(content)
        hashes = _hashes(files) if hashes is None else hashes
        with torch.device("cpu"):  # ignore torch's default device
            arrays = {**self.convert(name), _SOURCES: sources, _HASHES: hashes}
        buffer = BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, buffer.getvalue())
        return arrays, fingerprint(buffer.getvalue())


def _size_and_times(file: Path) -> list[int]:
    stat = file.stat()
    # Copy tools may set the modification time, but not the change time.
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _hashes(files: Sequence[Path]) -> Array:
    """Return the SHA-256 of each file, as 32 bytes."""
    digests = [bytes.fromhex(file_sha256(path)) for path in files]
    return np.array([list(digest) for digest in digests], np.uint8)


def _have_changed(files: Sequence[Path], recorded: object) -> bool:
    """Return whether files differ from their records; reads them if necessary."""
    if not isinstance(recorded, list) or len(recorded) != len(files):
        return True
    if [_size_and_times(file) for file in files] == [one[:-1] for one in recorded]:
        return False
    digests = [bytes(digest).hex() for digest in _hashes(files)]
    return digests != [one[-1] for one in recorded]


class StackedArrays(VerifiedDataset):
    r"""Base class of data sets whose samples are slices of shared arrays.

    The arrays are memory-mapped (`np.load(..., mmap_mode="r")`) on first access, in
    each process separately. The fingerprint of a sample covers its slices. In addition
    to `VerifiedDataset`'s interface, a subclass defines `index_ranges` and
    `open_arrays`, and `sample_axis` if it is not the first.
    """

    sample_axis: ClassVar[int] = 0
    """Sample axis of every array: 0 or -1."""
    index_ranges: ClassVar[Mapping[str, range]]
    """Indices of the samples of each split."""

    @abstractmethod
    def open_arrays(self) -> Mapping[str, Array]:
        """Return the arrays by name, such as `arrays.open_npy` opens them.

        All have the same length along `sample_axis`.

        Raises:
            ValueError: If a file is malformed.
        """

    def convert(self) -> None:
        """Write `.npy` files for `open_arrays` into `processed_dir`.

        Called when the split is processed. Only formats whose arrays cannot be
        memory-mapped directly need it; it does nothing by default.
        """

    def sample_names(self) -> list[str]:
        """Return the indices of the samples of the split, in order."""
        length = self._num_stacked()
        wanted = self.index_ranges[self.split]
        names = [f"{index:06d}" for index in wanted if index < length]
        if not names:
            raise FileNotFoundError(
                f"'{self.raw_paths[0]}' holds {length} samples; the {self.split} split "
                f"begins at index {wanted.start}."
            )
        return names

    def process(self) -> None:
        """Check and fingerprint every sample of the split; apply `pre_transform`."""
        Path(self.processed_dir).mkdir(parents=True, exist_ok=True)
        # Samples of an earlier run refer to arrays that `convert` replaces.
        Path(self.processed_paths[0]).unlink(missing_ok=True)
        self.convert()
        super().process()

    def __getstate__(self) -> dict[str, Any]:
        # Pickling a memory map would pickle its whole content.
        return {key: value for key, value in vars(self).items() if key != "_opened"}

    def _arrays(self) -> Mapping[str, Array]:
        if "_opened" not in vars(self):
            self._opened = self.open_arrays()
        return self._opened

    def _num_stacked(self) -> int:
        lengths = {
            name: array.shape[self.sample_axis] if array.ndim else 0
            for name, array in self._arrays().items()
        }
        if len(set(lengths.values())) != 1:
            raise ValueError(
                f"'{self.raw_paths[0]}' and the files beside it hold different numbers "
                f"of samples along axis {self.sample_axis}: {lengths}."
            )
        return next(iter(lengths.values()))

    def source(self, name: str) -> Path:
        """Return the first of the raw files, for messages."""
        return Path(self.raw_paths[0])

    def _read_arrays(
        self, name: str, expected: Fingerprint | None
    ) -> tuple[Mapping[str, Array], Fingerprint]:
        index: Any = int(name) if self.sample_axis == 0 else (..., int(name))
        arrays = {
            key: np.ascontiguousarray(array[index])
            for key, array in self._arrays().items()
        }
        actual = fingerprint_arrays(arrays)
        if expected is not None:
            what = f"sample {int(name)} of '{self.raw_paths[0]}' or a file beside it"
            check_fingerprint(what, actual, expected)
        return arrays, actual
