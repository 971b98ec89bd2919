"""Samples in memory and, after `pre_transform`, as files that hold no code."""

import zipfile
from io import BytesIO
from pathlib import Path
from pickle import PicklingError, UnpicklingError
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare._arguments import first_line
from torch_geometric_flare._finite import describe_gaps
from torch_geometric_flare.fields import Fields, channel_slices, num_channels


class MeshData(Data):
    r"""A `Data` whose `cells` stay right in a batch.

    When samples are put into a batch, PyTorch Geometric shifts `edge_index` and `face`
    to the points of their own sample, but knows nothing of `cells` [K, V], the points
    of each cell: those of all samples would name points of the first one. This class
    shifts them too. In everything else it is a `Data`.

    All samples of a batch need the same number of corners $V$.
    """

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        """Return how much to add to the values of a sample for those after it."""
        if key == "cells":
            return self.num_nodes
        return super().__inc__(key, value, *args, **kwargs)


def serialize(data: object, source: Path) -> bytes:
    r"""Return what `pre_transform` made of a sample as the content of a file.

    Args:
        data: A `Data` whose fields are tensors and plain Python values.
        source: The file that it was made from, for the messages.

    Returns:
        A dictionary of the fields as `torch.save` writes it, for `deserialize`.

    Raises:
        ValueError: If it is not a `Data`, or if a field is of another type.
    """
    if not isinstance(data, Data):
        raise ValueError(
            f"pre_transform must return a Data, got {type(data).__name__} for "
            f"'{source}'."
        )
    # A slice would take all of the tensor that it is a view of to disk.
    fields = {
        key: value.clone() if isinstance(value, Tensor) else value
        for key, value in data.to_dict().items()
    }
    buffer = BytesIO()
    try:
        torch.save(fields, buffer)
        torch.load(BytesIO(buffer.getvalue()), weights_only=True)
    except (AttributeError, PicklingError, TypeError, UnpicklingError) as error:
        raise ValueError(
            f"what pre_transform made of '{source}' holds more than tensors and plain "
            f"Python values, and cannot be stored: {list(fields)}."
        ) from error
    return buffer.getvalue()


def deserialize(content: bytes, path: Path) -> Data:
    r"""Return the sample in the content of a file that `serialize` made.

    No code is run. Checksums are compared, and what the file claims to hold with what
    it holds.

    Args:
        content: The bytes of the file.
        path: The file, for the messages.

    Raises:
        ValueError: If the content is damaged or no such sample, or `x`, `pos` or `y`
            is not finite. The message names the file.
    """
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            held = sum(member.file_size for member in archive.infolist())
            if held > len(content):  # torch.save compresses nothing
                raise ValueError(
                    f"it claims {held} bytes in a file of {len(content)} bytes"
                )
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f"the checksum of {damaged} differs")
        fields = torch.load(BytesIO(content), weights_only=True)
        if not isinstance(fields, dict):
            raise ValueError(f"it holds a {type(fields).__name__}, not a dictionary")
        # torch takes the length of a storage from the pickle, unchecked.
        storages = {
            value.untyped_storage().data_ptr(): value.untyped_storage().nbytes()
            for value in fields.values()
            if isinstance(value, Tensor)
        }
        if sum(storages.values()) > held:
            raise ValueError("its tensors claim more bytes than it holds")
        data = MeshData.from_dict(fields)
    except Exception as error:
        # What zipfile or torch raises depends on where the file is damaged.
        raise ValueError(
            f"'{path}' is damaged: delete it and make the data set again, which "
            f"restores this sample ({first_line(error)})."
        ) from error
    check_finite(data, path)
    return data


def num_stored_points(path: Path) -> int:
    r"""Return the points of a stored sample; its file is mapped and not read.

    Args:
        path: A file that `serialize` made.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If its content is damaged.
    """
    try:
        fields = torch.load(path, weights_only=True, mmap=True)
        return int(Data.from_dict(fields).num_nodes)
    except FileNotFoundError:
        raise
    except (
        AttributeError,
        EOFError,
        LookupError,
        RuntimeError,
        TypeError,
        UnpicklingError,
        ValueError,
    ) as error:
        raise ValueError(
            f"'{path}' does not tell its number of points ({first_line(error)}): "
            "delete it and make the data set again."
        ) from error


def check_finite(data: Data, path: Path, fields: Fields = ()) -> None:
    r"""Check that input, coordinates, target and `u` of a sample, if any, are finite.

    Args:
        data: The sample.
        path: Its file, for the message.
        fields: What the columns of `y` are, if known, for the message.

    Raises:
        ValueError: If a value is infinite or no number. The message names the file, the
            array and the number of such values.
    """
    for name in ("x", "pos", "y", "u"):
        value = data.get(name)
        if not isinstance(value, Tensor) or bool(value.isfinite().all()):
            continue
        columns = channel_slices(fields) if name == "y" else {}
        if value.dim() != 2 or value.size(1) != num_channels(fields):
            columns = {}
        parts = {key: value[:, at] for key, at in columns.items()} or {"": value}
        for key, part in parts.items():
            if gaps := describe_gaps(part.numpy(), key):
                raise ValueError(f"'{path}': {name} has {gaps}.")
