"""Data sets whose files are converted once, because they are slow to read."""

from abc import abstractmethod
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from torch_geometric_flare.datasets.arrays import Array, read_npz
from torch_geometric_flare.datasets.records import (
    Fingerprint,
    fingerprint,
    read_verified,
    write_atomic,
)
from torch_geometric_flare.datasets.verified import VerifiedDataset

_SOURCES = "source_sizes_and_times"


class ConvertedFiles(VerifiedDataset):
    r"""Base of data sets whose samples are converted to `.npz` files when processed.

    For meshes and other files that are large or slow to read: `convert` reads them
    once, and from then on the arrays are read from `converted_dir`, and verified. The
    raw files must stay where they are, but are not read again until
    `force_reload=True`. An interrupted run goes on with what it has converted, unless
    a raw file has changed in size or time since.

    Beside what `VerifiedDataset` asks for, a format defines `array_names`,
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
        """Folder of the converted files, which the splits share."""
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
        stats = [file.stat() for file in files]
        sources = np.array([[stat.st_size, stat.st_mtime_ns] for stat in stats])
        if path.exists() and not self.force_reload:
            content = path.read_bytes()
            arrays = read_npz(content, path, (*self.array_names, _SOURCES))
            if np.array_equal(arrays[_SOURCES], sources):
                return arrays, fingerprint(content)
        with torch.device("cpu"):  # whatever torch's default device
            arrays = {**self.convert(name), _SOURCES: sources}
        buffer = BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, buffer.getvalue())
        return arrays, fingerprint(buffer.getvalue())
