"""Checkpoints of plain values, read without unpickling objects."""

import inspect
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torch_geometric_flare.nn import models
from torch_geometric_flare.training.surrogate import Surrogate
from torch_geometric_flare.transforms import Normalizer

_PREFIX = "surrogate."
# Bytes at random make `torch.load` stumble in many ways.
_DAMAGED = (
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)


def describe_model(model: nn.Module) -> dict[str, Any]:
    """The name of the model's class and the arguments that rebuild it.

    Args:
        model: Any module; its constructor arguments are read off the attributes of the
            same names.

    Returns:
        `model`, the class name, and `arguments`, which is `None` for a class outside
        `torch_geometric_flare.nn.models` and for arguments that are no plain values:
        such a model must be handed to `load_surrogate`.
    """
    name = type(model).__name__
    if _known_class(name) is not type(model):
        return {"model": name, "arguments": None}
    arguments = {
        parameter: getattr(model, parameter)
        for parameter in inspect.signature(type(model)).parameters
    }
    plain = all(_is_plain(value) for value in arguments.values())
    return {"model": name, "arguments": arguments if plain else None}


def load_surrogate(
    path: str | Path,
    model: nn.Module | None = None,
    device: torch.device | str = "cpu",
) -> Surrogate:
    """Rebuild a surrogate from a checkpoint of `SurrogateModule`.

    The weights are the averaged ones where the training kept an average. The file is
    read with `torch.load(..., weights_only=True)`, which builds tensors and plain
    values and nothing else.

    Args:
        path: The checkpoint.
        model: The network that takes the weights. By default it is built from the
            class name and the arguments in the checkpoint.
        device: Where to put the surrogate.

    Returns:
        The surrogate, in evaluation mode.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged or no such checkpoint, its class is not in
            `torch_geometric_flare.nn.models` and no `model` is given, the weights do
            not fit the model, or there is no such device.
    """
    path = Path(path)
    checkpoint = read_checkpoint(path)
    try:
        surrogate = _rebuild(checkpoint, model)
    except ValueError as error:
        raise ValueError(f"path={str(path)!r}: {error}") from error
    except (AttributeError, LookupError, RuntimeError, TypeError) as error:
        raise ValueError(f"path={str(path)!r} is malformed: {error!r}") from error
    try:
        return surrogate.to(device).eval()
    except (AssertionError, RuntimeError) as error:  # as torch was built without CUDA
        raise ValueError(f"device={str(device)!r} cannot be used: {error}") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of a file that may hold anything, on the CPU.

    Args:
        path: The checkpoint.

    Returns:
        A dictionary with `surrogate` and `state_dict`, whose parts may be malformed.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged or no checkpoint of a surrogate.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"path={str(path)!r} is no file: a training writes its last checkpoint to "
            "last.ckpt in its folder"
        )
    checkpoint: Any = None
    cause = None
    with path.open("rb") as file, warnings.catch_warnings():
        # Of an old file format, which is refused below.
        warnings.simplefilter("ignore", UserWarning)
        try:
            checkpoint = torch.load(file, map_location="cpu", weights_only=True)
        except _DAMAGED as error:
            cause = error
    match checkpoint:
        case {
            "surrogate": {"model": str(), "arguments": dict() | None},
            "state_dict": dict(),
        }:
            return dict(checkpoint)
    raise ValueError(
        f"path={str(path)!r} is no checkpoint of a surrogate's training, or damaged: "
        "it must hold tensors and plain values, among them 'surrogate' and "
        "'state_dict'"
    ) from cause


def _rebuild(checkpoint: dict[str, Any], model: nn.Module | None) -> Surrogate:
    state = {
        name.removeprefix(_PREFIX): value
        for name, value in checkpoint["state_dict"].items()
    }
    if model is None:
        model = _build(checkpoint["surrogate"])
    target = _normalizer(state, "target_normalizer")
    if target is None:
        raise ValueError("the file holds no target_normalizer")
    surrogate = Surrogate(
        model,
        target,
        _normalizer(state, "coordinate_normalizer"),
        checkpoint["surrogate"].get("training_data"),
    )
    try:
        surrogate.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"the weights do not fit {type(model).__name__}: {error}"
        ) from error
    return surrogate


def _known_class(name: str) -> type[nn.Module] | None:
    """A class that `nn.models` exports, and nothing else that it may hold."""
    found = getattr(models, name, None) if name in models.__all__ else None
    return found if isinstance(found, type) and issubclass(found, nn.Module) else None


def _build(description: dict[str, Any]) -> nn.Module:
    name, arguments = description["model"], description["arguments"]
    known = _known_class(name)
    if known is None or arguments is None:
        raise ValueError(
            f"the file holds the weights of {name!r}, which cannot be rebuilt from "
            "the file alone: build the module and pass it as model="
        )
    unknown = set(arguments) - set(inspect.signature(known).parameters)
    if unknown:
        raise ValueError(
            f"the file holds arguments that {name} does not take: {sorted(unknown)}: "
            "load it with the version that wrote it"
        )
    return known(**arguments)


def _normalizer(state: dict[str, Tensor], name: str) -> Normalizer | None:
    if f"{name}.shift" not in state:
        return None
    return Normalizer(state[f"{name}.shift"], state[f"{name}.scale"])


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)
