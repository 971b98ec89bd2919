"""The one place that makes a model's input from coordinates and named features."""

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare.fields import Fields
from torch_geometric_flare.transforms.features import feature_key, get_feature
from torch_geometric_flare.transforms.normalizer import Normalizer

# Single precision holds all integers up to here.
_LARGEST_INTEGER = 2**24


def make_input(
    data: Data,
    features: Fields = (),
    coordinate_normalizer: Normalizer | None = None,
) -> Tensor:
    r"""Return the model input `x` of a sample: coordinates, then features.

    The features stay in their own units. Normalise them, where needed, with an input
    normaliser over all columns of `x`, such as `Normalizer.cat` makes.

    Args:
        data: A sample or a batch of samples with `pos` and each feature, under its own
            name or that of `feature_key`: at the points, or one row for each sample,
            which holds at all of its points.
        features: Names and channels of the features, in the order of their columns.
        coordinate_normalizer: Encodes `pos`; `None` leaves the coordinates as they
            are.

    Shapes:
        - `data.pos`: $[N, D]$
        - each feature of $C$ channels: $[N, C]$, or $[B, C]$ for $B$ samples; without
          the last dimension if $C = 1$

    Returns:
        The input, $[N, D + \sum C]$, in the widest dtype of `pos` and the features;
        integers count as those of `pos`, unless single precision does not hold them.

    Raises:
        ValueError: If `pos` or a feature is missing or of another shape. The message
            names it and its unit.
    """
    pos = data.get("pos")
    if not isinstance(pos, Tensor) or pos.dim() != 2:
        raise ValueError(
            "data needs coordinates `pos` of shape [N, D], got "
            f"{_shape(pos)}: add them, or give the sample its own `x`"
        )
    missing = [field for field in features if get_feature(data, field.name) is None]
    if missing:
        names = ", ".join(
            f"'{field.name}'" + (f" ({field.unit})" if field.unit else "")
            for field in missing
        )
        raise ValueError(
            f"features lacks {names}: the sample has only {sorted(data.keys())}. Add "
            f"data.{feature_key(missing[0].name)} of shape [{pos.size(0)}, "
            f"{missing[0].channels}]"
        )
    if coordinate_normalizer is not None:
        columns = [coordinate_normalizer.encode(pos)]
    else:
        columns = [pos]
    for field in features:
        value = get_feature(data, field.name)
        if isinstance(value, Tensor) and value.dim() == 1 and field.channels == 1:
            value = value.unsqueeze(1)
        value = _at_points(value, data, field.channels)
        expected = (pos.size(0), field.channels)
        if not isinstance(value, Tensor) or value.shape != expected:
            raise ValueError(
                f"the feature {field.name!r} has {_shape(value)}, expected the shape "
                f"{expected}: {pos.size(0)} points, {field.channels} channels"
            )
        columns.append(_floating(value, columns[0].dtype))
    return columns[0] if len(columns) == 1 else torch.cat(columns, dim=1)


def _floating(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Return numbers of any type as floating-point ones."""
    if value.is_floating_point():
        return value
    held = not value.numel() or bool(value.double().abs().max() <= _LARGEST_INTEGER)
    return value.to(dtype if held else torch.float64)


def set_features(data: Data, features: Fields) -> Data:
    r"""Make the columns of `x` after the coordinates those of the named features.

    Args:
        data: A sample with `pos`, with `x`, whose first columns are the encoded
            coordinates, and with each feature under the name of `feature_key`.
        features: All features of the sample, in the order of their columns.

    Shapes:
        - `data.x`: $[N, D + *]$
        - each feature: $[N, C]$

    Returns:
        The same sample, with a new `x` of $[N, D + \sum C]$.
    """
    columns = [data[feature_key(field.name)] for field in features]
    data.x = torch.cat([data.x[:, : data.pos.size(1)], *columns], dim=1)
    return data


def _at_points(value: object, data: Data, channels: int) -> object:
    """Return the rows of samples [B, C] at their points, anything else as it is."""
    batch = data.get("batch")
    graphs = 1
    if isinstance(batch, Tensor):
        graphs = getattr(data, "num_graphs", None) or int(batch.max()) + 1
    if not isinstance(value, Tensor) or value.shape != (graphs, channels):
        return value
    num_points = data["pos"].size(0)
    if num_points == graphs:
        return value
    return value.expand(num_points, -1) if batch is None else value[batch]


def _shape(value: object) -> str:
    if isinstance(value, Tensor):
        return f"the shape {tuple(value.shape)}"
    return f"the type {type(value).__name__}"
