"""Convert surrogates to plain values for a checkpoint and back."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from torch_geometric_flare._random import keep_random_state
from torch_geometric_flare.nn import models
from torch_geometric_flare.surrogates.calibration import Calibration
from torch_geometric_flare.surrogates.guard import Guard
from torch_geometric_flare.surrogates.normalized_model import NormalizedModel
from torch_geometric_flare.surrogates.normalized_points import (
    read_fields,
    read_normalizer,
)

S = TypeVar("S", bound=NormalizedModel)

# What a description has only for a surrogate of this class.
_KINDS = {"query": "QuerySurrogate", "noise_length": "GenerativeSurrogate"}

PREFIX = "surrogate."
"""Prefix of the surrogate's tensors in the state dict of a Lightning module."""


def describe_model(model: nn.Module) -> dict[str, Any]:
    """Return the name of the model's class and the arguments that rebuild it.

    Args:
        model: Any module; its constructor arguments are read from the attributes of
            the same names.

    Returns:
        `model`, the class name, and `arguments`, which is `None` for a class outside
        `torch_geometric_flare.nn.models` and for arguments that are not plain values:
        such a model must be passed to `load_surrogate`.
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


def describe_surrogate(surrogate: NormalizedModel) -> dict[str, Any]:
    """Return all that is needed to rebuild a surrogate, except its tensors.

    Args:
        surrogate: The surrogate.

    Returns:
        `model` and `arguments` as in `describe_model`, `training_data`, `location`,
        `fourier_octaves`, `weighted`, `surface`, `feature_bounds`, `condition_bounds`,
        and `fields`, `features` and `conditions`, each a list of `name`, `channels`,
        `unit` and, if the field has one, `source`; also `query` for a `QuerySurrogate`
        and `noise_length` for a `GenerativeSurrogate`.
    """
    return {
        **describe_model(surrogate.model),
        "training_data": surrogate.training_data,
        "location": surrogate.location,
        "fields": [field.to_dict() for field in surrogate.fields],
        "features": [field.to_dict() for field in surrogate.features],
        "conditions": [field.to_dict() for field in surrogate.conditions],
        "fourier_octaves": surrogate.fourier_octaves,
        "weighted": surrogate.weighted,
        "surface": surrogate.surface,
        "feature_bounds": _plain(surrogate.feature_bounds),
        "condition_bounds": _plain(surrogate.condition_bounds),
        **surrogate.describe_more(),
    }


def described_kind(description: Mapping[str, Any]) -> str:
    """Return the name of the surrogate class that a description belongs to."""
    names = (name for key, name in _KINDS.items() if key in description)
    return next(names, "Surrogate")


def describe_trust(surrogate: NormalizedModel) -> dict[str, Any]:
    """Return guard and calibration as tensors and plain values.

    Args:
        surrogate: The surrogate.

    Returns:
        `guard` and `calibration`, if the surrogate has them.
    """
    parts = {"guard": surrogate.guard, "calibration": surrogate.calibration}
    return {name: each.to_dict() for name, each in parts.items() if each is not None}


def rebuild_surrogate(
    kind: type[S],
    path: Path,
    description: dict[str, Any],
    state: dict[str, Tensor],
    model: nn.Module | None,
    device: torch.device | str,
    trust: Mapping[str, Any],
) -> S:
    """Build a surrogate from the contents of a file, which may be malformed.

    Args:
        kind: Class of the surrogate.
        path: The file, for error messages.
        description: As returned by `describe_surrogate`.
        state: State dict of the surrogate or of a module that holds it.
        model: As for `load_surrogate`.
        device: Device of the surrogate.
        trust: A mapping that includes the output of `describe_trust`.

    Returns:
        The surrogate, in evaluation mode.

    Raises:
        ValueError: As `load_surrogate`.
    """
    try:
        state = {name.removeprefix(PREFIX): value for name, value in state.items()}
        surrogate = build_surrogate(kind, description, state, model)
        if trust.get("guard") is not None:
            surrogate.guard = Guard.read(trust["guard"])
        if trust.get("calibration") is not None:
            channels = surrogate.target_normalizer.num_channels
            surrogate.calibration = Calibration.read(trust["calibration"], channels)
    except ValueError as error:
        raise ValueError(f"path={str(path)!r}: {error}") from error
    except (AttributeError, LookupError, RuntimeError, TypeError) as error:
        raise ValueError(f"path={str(path)!r} is malformed: {error!r}") from error
    try:
        return surrogate.to(device).eval()
    except (AssertionError, RuntimeError) as error:  # such as torch without CUDA
        raise ValueError(f"device={str(device)!r} cannot be used: {error}") from error


def build_surrogate(
    kind: type[S],
    description: dict[str, Any],
    state: dict[str, Tensor],
    model: nn.Module | None,
) -> S:
    """Rebuild a surrogate.

    Args:
        kind: Class of the surrogate.
        description: As returned by `describe_surrogate`. Without `fields`, as in
            checkpoints without field names, all channels are one field called `field`.
        state: As returned by `Surrogate.state_dict`.
        model: The network to load the weights into; `None` to build it.

    Returns:
        The surrogate. A model that is built here has the dtype of its weights.

    Raises:
        ValueError: If the description belongs to another class, the model cannot be
            built or the weights do not fit it, or a normalizer or a field is malformed.
            Values of unexpected types raise other exceptions.
    """
    described = described_kind(description)
    bases = (base.__name__ for base in kind.__mro__)
    if described != next((b for b in bases if b in _KINDS.values()), "Surrogate"):
        raise ValueError(
            f"the file holds a {described}, not a {kind.__name__}: load it as a "
            f"{described}"
        )
    if model is None:
        model = _build_model(description)
        for name, value in state.items():
            if name.startswith("model.") and value.is_floating_point():
                model.to(value.dtype)
                break
    target = read_normalizer(state, "target_normalizer")
    if target is None:
        raise ValueError("the file holds no target_normalizer")
    fields = description.get("fields")
    surrogate = kind(
        model,
        target,
        read_normalizer(state, "coordinate_normalizer"),
        description.get("training_data"),
        fields=None if fields is None else read_fields(fields),
        features=read_fields(description.get("features", [])),
        input_normalizer=read_normalizer(state, "input_normalizer"),
        fourier_octaves=description.get("fourier_octaves", 0),
        location=description.get("location"),
        weighted=description.get("weighted", False),
        surface=description.get("surface", False),
        conditions=read_fields(description.get("conditions", [])),
        condition_normalizer=read_normalizer(state, "condition_normalizer"),
        feature_bounds=description.get("feature_bounds"),
        condition_bounds=description.get("condition_bounds"),
        **kind.read_more(description, state),
    )
    try:
        surrogate.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"the weights do not fit {type(model).__name__}: {error}"
        ) from error
    return surrogate


def _known_class(name: str) -> type[nn.Module] | None:
    """Return the class that `nn.models` exports under this name, if any."""
    kind = getattr(models, name, None) if name in models.__all__ else None
    return kind if isinstance(kind, type) and issubclass(kind, nn.Module) else None


def _build_model(description: dict[str, Any]) -> nn.Module:
    name, arguments = description["model"], description["arguments"]
    kind = _known_class(name)
    if kind is None or arguments is None:
        raise ValueError(
            f"the file holds the weights of {name!r}, which cannot be rebuilt from "
            "the file alone: build the module and pass it as model="
        )
    unknown = set(arguments) - set(inspect.signature(kind).parameters)
    if unknown:
        raise ValueError(
            f"the file holds arguments that {name} does not take: {sorted(unknown)}: "
            "load it with the version that wrote it"
        )
    # The weights come from the file; initialization must not advance the global RNG, or
    # use torch's default device.
    with keep_random_state(), torch.device("cpu"):
        return kind(**arguments)


def _plain(bounds: tuple[list[float], list[float]] | None) -> list[list[float]] | None:
    return None if bounds is None else list(bounds)


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)
