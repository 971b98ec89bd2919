"""Checkpoints of tensors and plain values, read without unpickling objects."""

import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from torch_geometric_flare._arguments import check_kind, expand_path
from torch_geometric_flare._files import check_archive, replacing
from torch_geometric_flare.surrogates.description import (
    PREFIX,
    describe_surrogate,
    describe_trust,
    described_kind,
    rebuild_surrogate,
)
from torch_geometric_flare.surrogates.generative_surrogate import GenerativeSurrogate
from torch_geometric_flare.surrogates.query_surrogate import QuerySurrogate
from torch_geometric_flare.surrogates.surrogate import Surrogate


def save_surrogate(surrogate: Surrogate, path: str | Path) -> None:
    """Save a surrogate to a file that `load_surrogate` reads.

    The file holds the weights and the normalizers, the class of the model and its
    arguments, the names and units of fields and features, and a description of the
    training data. An existing file is replaced atomically.

    Args:
        surrogate: The surrogate.
        path: The file, in a folder that exists.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If `path` is a folder.
    """
    path = expand_path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"path={str(path)!r} lies in a folder that does not exist: make it first"
        )
    if path.is_dir():
        raise ValueError(f"path={str(path)!r} is a folder: name a file in it")
    state = {PREFIX + name: value for name, value in surrogate.state_dict().items()}
    content = {
        "surrogate": describe_surrogate(surrogate),
        "state_dict": state,
        **describe_trust(surrogate),
    }
    # Given a path, torch.save stores its name, which is random here, in the archive.
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        torch.save(content, file)


def load_surrogate(
    path: str | Path,
    model: nn.Module | None = None,
    device: torch.device | str = "cpu",
) -> Surrogate:
    """Load a surrogate from a `save_surrogate` file or a training checkpoint.

    From a training checkpoint, such as `last.ckpt`, it takes the averaged weights if
    there are any. It verifies the checksums of the file and reads it with
    `torch.load(..., weights_only=True)`, which builds only tensors and plain values. If
    the file has no field names, all channels are one field called `field`.

    Args:
        path: The file.
        model: The network to load the weights into. By default it is built from the
            class name and the arguments in the file, in the dtype of the weights.
        device: Device of the surrogate.

    Returns:
        The surrogate, in evaluation mode; a `QuerySurrogate` or `GenerativeSurrogate`
        if one was saved.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged or not such a checkpoint, its class is not in
            `torch_geometric_flare.nn.models` and no `model` is given, the weights do
            not fit the model, or the device does not exist.
    """
    check_kind((str, os.PathLike), "the path of a checkpoint", path=path)
    path = expand_path(path)
    checkpoint = read_checkpoint(path)
    described, state = checkpoint["surrogate"], checkpoint["state_dict"]
    kinds = (Surrogate, QuerySurrogate, GenerativeSurrogate)
    (kind,) = (each for each in kinds if each.__name__ == described_kind(described))
    return rebuild_surrogate(kind, path, described, state, model, device, checkpoint)


def add_trust(path: Path, surrogate: Surrogate) -> None:
    """Add guard and calibration to a training checkpoint.

    Training can still resume from it.

    Args:
        path: The checkpoint.
        surrogate: Its surrogate.
    """
    content = {**read_checkpoint(path), **describe_trust(surrogate)}
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        torch.save(content, file)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read an untrusted file onto the CPU.

    Args:
        path: The checkpoint.

    Returns:
        A dictionary with `surrogate` and `state_dict`, whose parts may be malformed.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged or not a checkpoint of a surrogate.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"path={str(path)!r} is not a file: a training writes its last checkpoint "
            "to last.ckpt in its folder"
        )
    checkpoint: Any = None
    cause = None
    with path.open("rb") as file, warnings.catch_warnings():
        # torch.load warns about an old file format, which is refused below.
        warnings.simplefilter("ignore", UserWarning)
        try:
            check_archive(file)
            file.seek(0)
            checkpoint = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            # zipfile and torch raise different exceptions for different damage.
            cause = error
    match checkpoint:
        case {
            "surrogate": {"model": str(), "arguments": dict() | None},
            "state_dict": dict(),
        }:
            return dict(checkpoint)
    raise ValueError(
        f"path={str(path)!r} is not a checkpoint of a surrogate, or damaged: it must "
        "hold tensors and plain values, among them 'surrogate' and 'state_dict'"
    ) from cause
