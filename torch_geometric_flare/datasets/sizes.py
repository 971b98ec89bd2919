"""How many points a stored sample has, read without its arrays."""

import zipfile
from pathlib import Path
from pickle import UnpicklingError

import torch
from numpy.lib import format as npy
from torch_geometric.data import Data


def num_points(path: Path, name: str = "pos") -> int:
    r"""Gives the points of a sample, from what its file says about its arrays.

    Args:
        path: An `.npz` file of arrays, of which one header is read, or a `.pt` file of
            fields, which is mapped and not read.
        name: The array of an `.npz` file that has one row a point.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If its content is damaged, or has no such array.
    """
    try:
        if path.suffix == ".pt":
            fields = torch.load(path, weights_only=True, mmap=True)
            return int(Data.from_dict(fields).num_nodes)
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            if npy.read_magic(file) == (1, 0):
                shape, _, _ = npy.read_array_header_1_0(file)
            else:
                shape, _, _ = npy.read_array_header_2_0(file)
            return int(shape[0])
    except FileNotFoundError:
        raise
    # KeyError where the archive lacks the array, IndexError where that is a scalar.
    except (
        EOFError,
        LookupError,
        RuntimeError,
        TypeError,
        UnpicklingError,
        ValueError,
        zipfile.BadZipFile,
    ) as error:
        raise ValueError(
            f"'{path}' does not tell its number of points, the rows of {name!r} "
            f"({error}): delete it and make the data set again."
        ) from error
