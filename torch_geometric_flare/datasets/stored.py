"""Samples in memory and, after `pre_transform`, as files without code."""

from io import BytesIO
from pathlib import Path
from pickle import PicklingError, UnpicklingError
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare._arguments import first_line
from torch_geometric_flare._files import check_archive
from torch_geometric_flare._finite import describe_gaps
from torch_geometric_flare.fields import Fields, channel_slices, num_channels


class MeshData(Data):
    r"""A `Data` whose `cells` are offset in a batch.

    When batching samples, PyTorch Geometric offsets `edge_index` and `face`, but not
    `cells` [K, V], the points of each cell, which would refer to points of the first
    sample. This class offsets them too. Otherwise it is a `Data`.

    All samples of a batch need the same number of corners $V$.
    """

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the offset that a sample adds to the values of later samples."""
        if key == "cells":
            return self.num_nodes
        return super().__inc__(key, value, *args, **kwargs)


def serialize(data: object, source: Path) -> bytes:
    r"""Serialize the output of `pre_transform` to the content of a file.

    Args:
        data: A `Data` whose fields are tensors and plain Python values.
        source: The source file, for the messages.

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
    # torch.save would store the whole base tensor of a view.
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
    r"""Return the sample in the content of a file from `serialize`.

    No code is executed. Checksums and declared sizes are verified.

    Args:
        content: The bytes of the file.
        path: The file, for the messages.

    Raises:
        ValueError: If the content is damaged or no such sample, or `x`, `pos` or `y`
            is not finite. The message names the file.
    """
    try:
        size = check_archive(BytesIO(content))
        fields = torch.load(BytesIO(content), weights_only=True)
        if not isinstance(fields, dict):
            raise ValueError(f"it holds a {type(fields).__name__}, not a dictionary")
        # torch trusts the storage length in the pickle.
        storages = {
            value.untyped_storage().data_ptr(): value.untyped_storage().nbytes()
            for value in fields.values()
            if isinstance(value, Tensor)
        }
        if sum(storages.values()) > size:
            raise ValueError("its tensors claim more bytes than it holds")
        data = MeshData.from_dict(fields)
    except Exception as error:
        # zipfile and torch raise different exceptions for different damage.
        raise ValueError(
            f"'{path}' is damaged: delete it and make the data set again, which "
            f"restores this sample ({first_line(error)})."
        ) from error
    check_finite(data, path)
    return data


def num_stored_points(path: Path) -> int:
    r"""Return the number of points of a stored sample by memory-mapping its file.

    Args:
        path: A file from `serialize`.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If its content is damaged.
    """
    try:
        fields = torch.load(path, weights_only=True, mmap=True)
        return int(Data.from_dict(fields).num_nodes)
    except FileNotFoundError:
        raise
    except Exception as error:  # as for `deserialize`
        raise ValueError(
            f"'{path}' does not tell its number of points ({first_line(error)}): "
            "delete it and make the data set again."
        ) from error


def check_finite(data: Data, path: Path, fields: Fields = ()) -> None:
    r"""Check that input, coordinates, target and `u` of a sample, if any, are finite.

    Args:
        data: The sample.
        path: Its file, for the message.
        fields: The columns of `y`, if known, for the message.

    Raises:
        ValueError: If a value is infinite or NaN. The message names the file, the array
            and the number of such values.
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
