"""Arrays that are read and written in chunks of rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from torch_geometric_flare.nn.checks import is_positive


class Residual(Protocol):
    """The features of all points between two blocks."""

    def read(self, rows: slice) -> Tensor:
        """Return rows."""

    def write(self, rows: slice, features: Tensor) -> None:
        """Store rows."""


class MemoryResidual:
    """Features kept in memory."""

    def __init__(self, points: int, channels: int, dtype: torch.dtype) -> None:
        self.features = torch.empty(points, channels, dtype=dtype)

    def read(self, rows: slice) -> Tensor:
        """Return rows."""
        return self.features[rows]

    def write(self, rows: slice, features: Tensor) -> None:
        """Store rows."""
        self.features[rows] = features


class FileResidual:
    """Features in a file, not memory-mapped because mapped pages count as memory."""

    def __init__(self, file: Any, channels: int, dtype: torch.dtype) -> None:
        self.file = file
        self.channels = channels
        self.dtype = dtype

    def _at(self, rows: slice) -> Any:
        self.file.seek(rows.start * self.channels * self.dtype.itemsize)
        return self.file

    def read(self, rows: slice) -> Tensor:
        """Return rows."""
        features = torch.empty(rows.stop - rows.start, self.channels, dtype=self.dtype)
        self._at(rows).readinto(_bytes(features))
        return features

    def write(self, rows: slice, features: Tensor) -> None:
        """Store rows."""
        features = features.to("cpu", self.dtype).contiguous()
        self._at(rows).write(_bytes(features))


def _bytes(features: Tensor) -> Any:
    return features.view(torch.uint8).numpy()  # NumPy has no bfloat16


def check_source(source: Any, channels: int) -> int:
    """Return the number of rows of an array of features.

    Args:
        source: The array.
        channels: Expected number of columns.

    Raises:
        TypeError: If it is not an array.
        ValueError: If it has another shape.
    """
    _check_array("source", source)
    shape = tuple(source.shape)
    if len(shape) != 2 or shape[1] != channels:
        raise ValueError(
            f"source has shape {shape}, expected [N, {channels}]: one graph"
        )
    points: int = shape[0]
    return points


def row_chunks(source: Any, chunk_size: int) -> list[slice]:
    """Split the rows of an array into chunks, at least one even if it is empty.

    Args:
        source: The array.
        chunk_size: Number of rows per chunk.

    Raises:
        ValueError: If `chunk_size` is not a positive integer.
    """
    if not is_positive(chunk_size):
        raise ValueError(
            f"chunk_size is {chunk_size!r}, expected a positive integer; for all "
            "points at once call the model"
        )
    points = source.shape[0]
    return [
        slice(start, min(start + chunk_size, points))
        for start in range(0, max(1, points), chunk_size)
    ]


def check_sink(sink: Any, points: int, channels: int) -> None:
    """Validate the output array for the fields.

    Args:
        sink: The array.
        points: Expected number of rows.
        channels: Number of fields of the model.

    Raises:
        TypeError: If it is not an array.
        ValueError: If it has another shape, has an integer dtype, or is read-only.
    """
    _check_array("sink", sink)
    wanted = (points, channels)
    if tuple(sink.shape) != wanted:
        raise ValueError(
            f"sink has shape {tuple(sink.shape)}, expected {wanted}: as many rows as "
            "source, and one column per field of the model"
        )
    floating = (
        sink.dtype.is_floating_point
        if isinstance(sink, Tensor)
        else np.issubdtype(getattr(sink, "dtype", float), np.floating)
    )
    if not floating:
        raise ValueError(f"sink has dtype {sink.dtype}, expected a floating-point type")
    if isinstance(sink, np.ndarray) and not sink.flags.writeable:
        raise ValueError("sink is read-only: open a memory map with mode='r+' or 'w+'")


def _check_array(name: str, array: Any) -> None:
    if not hasattr(array, "shape"):
        raise TypeError(
            f"{name} is a {type(array).__name__}, expected an array with a shape, "
            "such as a tensor or a NumPy array"
        )


def read_rows(source: Any, rows: slice, like: Tensor) -> Tensor:
    """Return rows of an array with the device and dtype of a tensor."""
    part = source[rows]
    if not isinstance(part, Tensor):
        exact = np.float64 if like.dtype == torch.float64 else np.float32
        # Copy, because tensors cannot share read-only or byte-swapped memory.
        part = torch.from_numpy(np.array(part, dtype=exact, order="C"))
    return part.to(like).contiguous()


def write_rows(sink: Any, rows: slice, y: Tensor) -> None:
    """Write rows to an array."""
    if not isinstance(sink, Tensor):
        wide = torch.promote_types(y.dtype, torch.float32)
        y = y.to("cpu", wide).numpy()  # type: ignore[assignment]
    sink[rows] = y


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode, and restore the mode of each module afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
