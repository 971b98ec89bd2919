"""Read numeric arrays from `.mat` files of MATLAB 5 and MATLAB 7.3."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from torch_geometric_flare._extras import needs_extra
from torch_geometric_flare.datasets.arrays import Array

if TYPE_CHECKING:
    import h5py

_NUMBERS = {"double", "single"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}
_BLOCK = 2**28  # bytes of a MATLAB 7.3 file read at a time
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def mat_shapes(path: Path, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    r"""Return the shapes of arrays in a `.mat` file from the headers.

    Args:
        path: The file, of MATLAB 5 or 7.3.
        names: The arrays.

    Returns:
        The shapes, with the axes in MATLAB's order.

    Raises:
        FileNotFoundError: If the file is missing.
        ImportError: If h5py or SciPy is needed and not installed.
        ValueError: If the file is damaged, lacks an array, or one holds anything other
            than real numbers (text, cells, structures, objects). The message names the
            file.
    """
    try:
        if _is_hdf5(path):
            with _open_hdf5(path) as file:
                return {
                    name: _dataset(file, name).shape[::-1]  # HDF5 reverses the axes
                    for name in names
                }
        listed = _scipy_io(path).whosmat(path, appendmat=False)
        available = {name: (shape, kind) for name, shape, kind in listed}
        for name in names:
            if name not in available:
                raise ValueError(f"it lacks {name}, and holds {sorted(available)}")
            if available[name][1] not in _NUMBERS:
                raise ValueError(f"{name} is of class {available[name][1]}")
        return {name: tuple(available[name][0]) for name in names}
    except (FileNotFoundError, ImportError):
        raise
    except Exception as error:
        raise _refusal(path, names, error) from error


def mat_blocks(path: Path, name: str, count: int) -> Iterator[Array]:
    r"""Yield the first samples of an array in a `.mat` file, block by block.

    MATLAB 5 compresses an array as a whole, so it is read at once. Of MATLAB 7.3 files
    a block takes at most 256 MiB: samples lie along the fastest axis, so reading them
    one by one would decompress the whole array for each.

    Args:
        path: The file, of MATLAB 5 or 7.3.
        name: The array; its first axis in MATLAB is the sample axis.
        count: Number of samples to read.

    Raises:
        ImportError: If h5py or SciPy is needed and not installed.
        ValueError: If the array is damaged or not of real numbers. The message names
            the file.
    """
    try:
        if _is_hdf5(path):
            with _open_hdf5(path) as file:
                data = _dataset(file, name)
                step = max(1, _BLOCK // (data.nbytes // data.shape[-1]))
                for start in range(0, count, step):
                    yield data[..., start : min(count, start + step)].T
        else:
            read = _scipy_io(path).loadmat
            array: Array = read(path, appendmat=False, variable_names=[name])[name]
            if array.dtype.kind not in "fiu":
                raise ValueError(f"{name} is of type {array.dtype}")
            yield array[:count]
    except (FileNotFoundError, ImportError, MemoryError):
        raise
    except Exception as error:
        raise _refusal(path, [name], error) from error


def _refusal(path: Path, names: Sequence[str], error: Exception) -> ValueError:
    # SciPy, h5py and zlib raise different exceptions for different damage.
    return ValueError(
        f"'{path}' is not a .mat file with arrays {' and '.join(names)} of real "
        f"numbers: {error}"
    )


def _is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(512 + len(_SIGNATURE))
    # MATLAB writes a header of 512 bytes before the HDF5 content.
    return start.startswith(_SIGNATURE) or start[512:] == _SIGNATURE


def _scipy_io(path: Path) -> ModuleType:
    with needs_extra("data", f"'{path}' is a MATLAB 5 file, and reading it"):
        import scipy.io
    io: ModuleType = scipy.io
    return io


def _open_hdf5(path: Path) -> "h5py.File":
    with needs_extra("data", f"'{path}' is a MATLAB 7.3 file, and reading it"):
        import h5py
    return h5py.File(path, "r")


def _dataset(file: "h5py.File", name: str) -> "h5py.Dataset":
    import h5py

    if name not in file:
        raise ValueError(f"it lacks {name}, and holds {sorted(file)}")
    # A link or external storage could read any file.
    is_own = isinstance(file.get(name, getlink=True), h5py.HardLink)
    data = file[name] if is_own else None
    if not isinstance(data, h5py.Dataset) or data.external or data.is_virtual:
        raise ValueError(f"{name} is not an array in the file itself")
    kind = data.attrs.get("MATLAB_class", b"double")
    kind = kind.decode() if isinstance(kind, bytes) else kind
    if kind not in _NUMBERS or data.dtype.kind not in "fiu":
        raise ValueError(f"{name} is of class {kind} and type {data.dtype}")
    return data
