"""Read arrays from untrusted files; validate them before allocating memory."""

import math
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib import format as npy
from torch import Tensor

from torch_geometric_flare._finite import describe_gaps

Array = npt.NDArray[Any]

# Compression shrinks real fields only by a small factor.
_LARGEST_RATIO = 100
_ALWAYS_ALLOWED = 2**24  # bytes


def read_npz(
    content: bytes, path: Path, names: Sequence[str] | None = None
) -> dict[str, Array]:
    r"""Return arrays of numbers from the content of an `.npz` file.

    Nothing is unpickled. Shapes and types from the headers are compared with the
    available bytes before an array is allocated. Checksums are verified.

    Args:
        content: The bytes of the file.
        path: The file, for the messages.
        names: The arrays to read; `None` for all. Others are ignored.

    Returns:
        The arrays by name.

    Raises:
        ValueError: If the file is damaged, lacks an array, claims more bytes than it
            can hold, or an array holds anything but numbers. The message names the
            file.
    """
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            members = {member.filename: member for member in archive.infolist()}
            if names is None:
                names = [name.removesuffix(".npy") for name in members]
            missing = [name for name in names if f"{name}.npy" not in members]
            if missing:
                available = sorted(name.removesuffix(".npy") for name in members)
                raise ValueError(
                    f"it lacks {', '.join(missing)}, and holds {available}"
                )
            claimed = sum(members[f"{name}.npy"].file_size for name in names)
            if claimed > max(_ALWAYS_ALLOWED, _LARGEST_RATIO * len(content)):
                raise ValueError(
                    f"it claims {claimed} bytes of arrays in a file of {len(content)}"
                )
            return {
                name: _read_member(archive, members[f"{name}.npy"]) for name in names
            }
    except Exception as error:
        # NumPy, zipfile and zlib raise different exceptions for different damage.
        wanted = f"the arrays {' and '.join(names)}" if names else "arrays"
        raise ValueError(
            f"'{path}' is not a .npz file with {wanted} of numbers: {error}"
        ) from error


def open_npy(path: Path, shape: Sequence[int | None] | None = None) -> Array:
    r"""Return the memory-mapped array of an `.npy` file.

    Args:
        path: The file.
        shape: The expected shape; a `None` in it matches any length. `None` accepts all
            shapes.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it is damaged, shorter than its header says, of another shape, or
            holds anything other than numbers. The message names the file.
    """
    try:
        with path.open("rb") as file:
            _read_header(file)
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise
    except Exception as error:
        # EOFError, ValueError, OSError or TypeError, depending on the damage.
        raise ValueError(
            f"'{path}' is not a .npy file with an array of numbers: {error}"
        ) from error
    if shape is not None:
        check_shape(array.shape, shape, f"'{path}'")
    return array


def check_shape(
    found: Sequence[int], expected: Sequence[int | None], what: str
) -> None:
    r"""Check the shape in a file's header.

    Args:
        found: The shape.
        expected: The expected shape; a `None` in it matches any positive length.
        what: The file and the array, for the message.

    Raises:
        ValueError: If the two differ.
    """
    if len(found) != len(expected) or any(
        size < 1 if wanted is None else size != wanted
        for size, wanted in zip(found, expected, strict=True)
    ):
        text = ", ".join("n" if size is None else str(size) for size in expected)
        raise ValueError(f"{what} has the shape {tuple(found)}, expected ({text}).")


def to_tensor(array: Array, channels: int, what: str) -> Tensor:
    r"""Return an array with one row per point as a float32 tensor.

    Args:
        array: Numbers, expected to be of shape [N, `channels`] with N > 0.
        channels: Expected number of columns.
        what: The file and the array, for the messages.

    Raises:
        ValueError: If the shape differs, or a value is not finite.
    """
    if array.ndim != 2 or array.shape[1] != channels or len(array) == 0:
        raise ValueError(f"{what} must have shape (n, {channels}), got {array.shape}.")
    with np.errstate(over="ignore"):  # float32 overflow gives inf
        values = array.astype(np.float32)
    if gaps := describe_gaps(values):
        raise ValueError(f"{what} has {gaps}.")
    return torch.from_numpy(values)


def array_length(path: Path, name: str) -> int:
    r"""Return the length of an array in an `.npz` file from its header.

    Args:
        path: The file.
        name: The array.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If the file is damaged or has no such array, or it is a scalar.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            shape, _ = _read_header(file)
        return shape[0]
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f"'{path}' does not tell the length of {name!r} ({error}): delete it and "
            "make the data set again."
        ) from error


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    with archive.open(member) as file:
        shape, dtype = _read_header(file)
        start = file.tell()
    claimed = math.prod(shape) * dtype.itemsize
    if claimed != member.file_size - start:
        raise ValueError(
            f"{member.filename} claims the shape {shape} of {dtype}, {claimed} bytes, "
            f"and holds {member.file_size - start}"
        )
    # Read the whole member, so that its checksum is verified.
    array: Array = npy.read_array(BytesIO(archive.read(member)), allow_pickle=False)
    return array


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and type of a numeric array from its header."""
    version = npy.read_magic(file)
    # Version 3 is only for structured types with names beyond Latin-1.
    if version == (1, 0):
        shape, _, dtype = npy.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = npy.read_array_header_2_0(file)
    else:
        raise ValueError(f"its version {version} is not one of arrays of numbers")
    if dtype.kind not in "fiub":
        raise ValueError(f"its type is {dtype}, not real numbers")
    if any(size < 0 for size in shape):
        raise ValueError(f"its shape is {shape}")
    return shape, dtype
