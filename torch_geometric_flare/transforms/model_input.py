"""Assembly of a model's input from coordinates and named features."""

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare.fields import Fields
from torch_geometric_flare.transforms.features import feature_key, get_feature
from torch_geometric_flare.transforms.normalizer import Normalizer

# Single precision represents all integers up to this one.
_LARGEST_INTEGER = 2**24


def make_input(
    data: Data,
    features: Fields = (),
    coordinate_normalizer: Normalizer | None = None,
) -> Tensor:
    r"""Return the model input `x` of a sample: coordinates, then features.

    The features are not normalized. If needed, normalize all columns of `x` with an
    input normalizer, for example from `Normalizer.cat`.

    Args:
        data: A sample or a batch of samples with `pos` and each feature, under its name
            or `feature_key`, either at the points or as one row per sample that applies
            to all its points.
        features: Names and channels of the features, in the order of their columns.
        coordinate_normalizer: Encodes `pos`; `None` for raw coordinates.

    Shapes:
        - `data.pos`: $[N, D]$
        - each feature of $C$ channels: $[N, C]$, or $[B, C]$ for $B$ samples; without
          the last dimension if $C = 1$, or a number for a single sample

    Returns:
        The input, $[N, D + \sum C]$, in the widest dtype of `pos` and the features.
        Integers are converted to the dtype of `pos`, or to float64 if single precision
        does not represent them.

    Raises:
        ValueError: If `pos` or a feature is missing or has another shape. The message
            contains its name and unit.
    """
    pos = data.get("pos")
    if not isinstance(pos, Tensor) or pos.dim() != 2:
        raise ValueError(
            "data needs coordinates `pos` of shape [N, D], got "
            f"{_shape(pos)}: add them, or set `x` in the sample"
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
            f"{missing[0].channels}], or [1, {missing[0].channels}] for a whole sample"
        )
    if coordinate_normalizer is not None:
        columns = [coordinate_normalizer.encode(pos)]
    else:
        columns = [pos]
    for field in features:
        value = get_feature(data, field.name)
        if isinstance(value, (int, float)):
            value = torch.tensor(value)
        if isinstance(value, Tensor) and value.dim() < 2 and field.channels == 1:
            value = value.reshape(-1, 1)
        value = _at_points(value, data, field.channels)
        expected = (pos.size(0), field.channels)
        if not isinstance(value, Tensor) or value.shape != expected:
            raise ValueError(
                f"the feature {field.name!r} has {_shape(value)}, expected shape "
                f"{expected}, {pos.size(0)} points of {field.channels} channels, or "
                f"(1, {field.channels}) for a whole sample"
            )
        columns.append(_floating(value, columns[0].dtype))
    return columns[0] if len(columns) == 1 else torch.cat(columns, dim=1)


def _floating(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert numbers of any dtype to floating point."""
    if value.is_floating_point():
        return value
    exact = not value.numel() or bool(value.double().abs().max() <= _LARGEST_INTEGER)
    return value.to(dtype if exact else torch.float64)


def set_features(data: Data, features: Fields) -> Data:
    r"""Replace the columns of `x` after the coordinates by the named features.

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
    """Expand rows per sample [B, C] to their points; return other values unchanged."""
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
        return f"shape {tuple(value.shape)}"
    return f"type {type(value).__name__}"
