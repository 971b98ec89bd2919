"""Data sets in which each sample has a file of its own."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from torch_geometric_flare.datasets.arrays import Array, read_npz
from torch_geometric_flare.datasets.records import (
    Fingerprint,
    fingerprint,
    read_verified,
)
from torch_geometric_flare.datasets.verified import VerifiedDataset


class FilePerSample(VerifiedDataset):
    r"""Base of data sets with one `.npz` file per sample.

    A file is read whole, and its bytes are verified before they are taken for arrays.
    Beside what `VerifiedDataset` asks for, a format defines `array_names` and
    `sample_paths`.
    """

    array_names: ClassVar[tuple[str, ...]]
    """The arrays that are read; all others in a file are left alone."""

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
