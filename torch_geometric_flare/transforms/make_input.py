"""The input of a model from coordinates and named features."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare.fields import Field
from torch_geometric_flare.transforms.normalizer import Normalizer


def make_input(
    data: Data,
    features: Iterable[Field] = (),
    coordinate_normalizer: Normalizer | None = None,
) -> Tensor:
    r"""Return the coordinates and the named features side by side.

    Args:
        data: A sample with `pos` and each feature under its own name.
        features: What stands after the coordinates.
        coordinate_normalizer: Encodes the coordinates; `None` leaves them as they are.

    Returns:
        $[N, D + F]$, the coordinates first.

    Raises:
        ValueError: If the sample lacks a feature.
    """
    features = tuple(features)
    missing = [
        f"{field.name!r}{_unit(field)}" for field in features if field.name not in data
    ]
    if missing:
        raise ValueError(f"features lacks {', '.join(missing)}: add it to the sample")
    pos = data.pos
    if coordinate_normalizer is not None:
        pos = coordinate_normalizer.encode(pos)
    columns = [data[field.name].reshape(len(pos), field.channels) for field in features]
    return torch.cat([pos, *columns], dim=1) if columns else pos


def _unit(field: Field) -> str:
    return f" ({field.unit})" if field.unit else ""
