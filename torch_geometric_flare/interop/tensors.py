"""Reading a checkpoint by the names and shapes of its tensors."""

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


def entry(state: Mapping[str, Tensor], name: str) -> Tensor:
    """Return a tensor that every checkpoint of the architecture holds.

    Raises:
        ValueError: If `state` lacks it.
    """
    if name not in state:
        raise ValueError(f"state_dict has no {name!r}: is it of this architecture?")
    return state[name]


def count(state: Mapping[str, Tensor], pattern: str) -> int:
    """Count the different numbers that the pattern's group takes at names' start."""
    matches = (re.match(pattern, name) for name in state)
    return len({match.group(1) for match in matches if match})


def rename(name: str, patterns: Iterable[tuple[str, str]]) -> str:
    """Replace the patterns in a name, one after the other."""
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
    """Load tensors under the model's own names, all of them and no others.

    Returns:
        The model, in evaluation mode.

    Raises:
        ValueError: If a name is missing or unknown, or a shape differs.
    """
    own = model.state_dict()
    missing, unknown = sorted(own.keys() - renamed), sorted(renamed.keys() - own)
    if missing or unknown:
        raise ValueError(
            f"state_dict does not fit: missing {missing}, unknown {unknown}; check "
            "qk_norm and the architecture"
        )
    for name, value in renamed.items():
        if value.shape != own[name].shape:
            raise ValueError(
                f"{name} has shape {tuple(value.shape)}, expected "
                f"{tuple(own[name].shape)}"
            )
    model.load_state_dict(renamed)
    return model.eval()
