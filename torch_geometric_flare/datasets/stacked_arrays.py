"""Data sets in which a few arrays hold all samples together."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from torch_geometric_flare.datasets.arrays import Array
from torch_geometric_flare.datasets.records import (
    Fingerprint,
    check_fingerprint,
    fingerprint_arrays,
)
from torch_geometric_flare.datasets.verified import VerifiedDataset


class StackedArrays(VerifiedDataset):
    r"""Base of data sets whose samples are slices of arrays that hold all of them.

    The arrays are opened, not read (`np.load(..., mmap_mode="r")`), when the first
    sample is, in each process by itself. The fingerprint of a sample is that of its
    own slices. Beside what `VerifiedDataset` asks for, a format defines `index_ranges`
    and `open_arrays`, and `sample_axis` where it is not the first.
    """

    sample_axis: ClassVar[int] = 0
    """Axis of every array that counts the samples: 0 or -1."""
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

        Called whenever the split is processed. Only formats whose arrays cannot be
        mapped into memory as they are need it; it does nothing here.
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
        # The samples of an earlier run are those of arrays that `convert` replaces.
        Path(self.processed_paths[0]).unlink(missing_ok=True)
        self.convert()
        super().process()

    def __getstate__(self) -> dict[str, Any]:
        # A memory map would be pickled with all that it maps.
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
        found = fingerprint_arrays(arrays)
        if expected is not None:
            what = f"sample {int(name)} of '{self.raw_paths[0]}' or a file beside it"
            check_fingerprint(what, found, expected)
        return arrays, found
