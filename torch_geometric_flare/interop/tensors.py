"""Helpers to read a checkpoint by the names and shapes of its tensors."""

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


def entry(state: Mapping[str, Tensor], name: str) -> Tensor:
    """Return a tensor that every checkpoint of the architecture has.

    Raises:
        ValueError: If `state` lacks it.
    """
    if name not in state:
        raise ValueError(f"state_dict has no {name!r}: is it of this architecture?")
    return state[name]


def count(state: Mapping[str, Tensor], pattern: str) -> int:
    """Count the distinct values of the pattern's group at the start of names."""
    matches = (re.match(pattern, name) for name in state)
    return len({match.group(1) for match in matches if match})


def rename(name: str, patterns: Iterable[tuple[str, str]]) -> str:
    """Replace patterns in a name one by one."""
    for pattern, replacement in patterns:
        name = re.sub(pattern, replacement, name)
    return name


def head_width(width: int, heads: int) -> int:
    """Return the width of one head.

    Raises:
        ValueError: If `heads` does not divide `width`.
    """
    if heads < 1 or width % heads:
        raise ValueError(f"heads is {heads}, which does not divide the width {width}")
    return width // heads


def load(model: Model, renamed: Mapping[str, Tensor]) -> Model:
    """Load tensors by the model's names; all must be present and no others.

    Returns:
        The model, in evaluation mode.

    Raises:
        ValueError: If a name is missing or unknown, or a shape differs.
    """
    own_state = model.state_dict()
    missing = sorted(own_state.keys() - renamed)
    unknown = sorted(renamed.keys() - own_state)
    if missing or unknown:
        raise ValueError(
            f"state_dict does not fit: missing {missing}, unknown {unknown}; check "
            "the architecture and its options in training"
        )
    for name, value in renamed.items():
        if value.shape != own_state[name].shape:
            raise ValueError(
                f"{name} has shape {tuple(value.shape)}, expected "
                f"{tuple(own_state[name].shape)}"
            )
    model.load_state_dict(renamed)
    return model.eval()


def mlp_layers(state: Mapping[str, Tensor], prefix: str) -> int:
    """Count the residual hidden layers of a residual MLP; -1 for a single linear map.

    Args:
        state: The checkpoint.
        prefix: Prefix of the names of the MLP, including the last dot.
    """
    if f"{prefix}fc.weight" in state:
        return -1
    return count(state, re.escape(prefix) + r"fcs\.(\d+)\.")


def rename_mlp_layer(new: str, state: Mapping[str, Tensor], name: str) -> str:
    """Rename the layers of a residual MLP to indices of one list, `layers`.

    Args:
        new: The name so far.
        state: The checkpoint.
        name: The name in the checkpoint. Names that end in `fc1`, `fcs.0` and so on,
            `fc2`, or a single `fc`, and `weight` or `bias` are renamed.
    """
    match = re.match(r"(.*\.)(fc1|fc2|fcs\.(\d+)|fc)(\.\w+)$", new)
    if match is None:
        return new
    prefix, layer, inner, suffix = match.groups()
    if inner is not None:
        index = int(inner) + 1
    elif layer == "fc2":
        index = mlp_layers(state, name[: name.rindex("fc2")]) + 1
    else:
        index = 0
    return f"{prefix}layers.{index}{suffix}"
