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
        ValueError: If the file is no such checkpoint, its class is not in
            `torch_geometric_flare.nn.models` and no `model` is given, or the weights
            do not fit the model.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"path={str(path)!r} is no file: a training writes its last checkpoint to "
            "last.ckpt in its folder"
        )
    checkpoint = _read(path, device)
    state = {
        name.removeprefix(_PREFIX): value
        for name, value in checkpoint["state_dict"].items()
    }
    if model is None:
        model = _build(checkpoint["surrogate"], path)
    target = _normalizer(state, "target_normalizer")
    if target is None:
        raise ValueError(f"path={str(path)!r} holds no target_normalizer")
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
            f"the weights in path={str(path)!r} do not fit {type(model).__name__}: "
            f"{error}"
        ) from error
    return surrogate.to(device).eval()


def _read(path: Path, device: torch.device | str) -> dict[str, Any]:
    """The contents of a file that may hold anything."""
    cause = None
    try:
        with warnings.catch_warnings():
            # Of an old file format, which is refused below.
            warnings.simplefilter("ignore", UserWarning)
            checkpoint = torch.load(path, map_location=device, weights_only=True)
    # Bytes at random make torch.load stumble in many ways.
    except (pickle.UnpicklingError, EOFError, LookupError, RuntimeError) as error:
        checkpoint, cause = None, error
    match checkpoint:
        case {"surrogate": {"model": str(), "arguments": _}, "state_dict": dict()}:
            return dict(checkpoint)
    raise ValueError(
        f"path={str(path)!r} is no checkpoint of a surrogate's training: it must hold "
        "tensors and plain values, among them 'surrogate' and 'state_dict'"
    ) from cause


def _known_class(name: str) -> type[nn.Module] | None:
    """A class that `nn.models` exports, and nothing else that it may hold."""
    found = getattr(models, name, None) if name in models.__all__ else None
    return found if isinstance(found, type) and issubclass(found, nn.Module) else None


def _build(description: dict[str, Any], path: Path) -> nn.Module:
    name, arguments = description["model"], description["arguments"]
    known = _known_class(name)
    if known is None or arguments is None:
        raise ValueError(
            f"path={str(path)!r} holds the weights of {name!r}, which cannot be "
            "rebuilt from the file alone: build the module and pass it as model="
        )
    unknown = set(arguments) - set(inspect.signature(known).parameters)
    if unknown:
        raise ValueError(
            f"path={str(path)!r} holds arguments that {name} does not take: "
            f"{sorted(unknown)}: load it with the version that wrote it"
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
