"""Normalizers of a surrogate from a training split."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypedDict

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare.fields import Fields, channel_names
from torch_geometric_flare.transforms import Normalizer, channel_bounds, feature_key


class SurrogateArguments(TypedDict):
    """Arguments of `SurrogateModule` and `Surrogate` from a training split."""

    target_normalizer: Normalizer
    coordinate_normalizer: Normalizer
    input_normalizer: Normalizer | None
    fields: Fields
    features: Fields
    location: str
    weighted: bool
    surface: bool
    feature_bounds: tuple[list[float], list[float]] | None
    conditions: Fields
    condition_normalizer: Normalizer | None
    condition_bounds: tuple[list[float], list[float]] | None


def fit_arguments(
    samples: Callable[[], Iterable[Data]],
    bounds: tuple[Tensor, Tensor],
    *,
    fields: Fields,
    features: Fields,
    conditions: Fields,
    location: str,
) -> SurrogateArguments:
    """Return the arguments of a surrogate, with statistics of a training split.

    Args:
        samples: Returns the samples; called several times, so that they need not be in
            memory together.
        bounds: Corners of their bounding box.
        fields: Fields in the columns of `y`.
        features: Features, each under its `feature_key`.
        conditions: Conditions in the columns of `u`.
        location: Location of the values on a mesh.
    """
    lower, upper = bounds
    # Slices at one x have no extent along x: use the largest side of the box there.
    size = upper - lower
    half = torch.where(size > 0, 0, size.max().item() or 1.0) / 2

    def inputs() -> Iterator[Tensor]:
        for data in samples():
            yield torch.cat([data[feature_key(f.name)] for f in features], dim=1)

    input_normalizer = feature_bounds = None
    if features:
        of_features = Normalizer.gaussian(inputs(), names=channel_names(features))
        input_normalizer = Normalizer.cat(
            [Normalizer.identity(len(lower)), of_features]
        )
        feature_bounds = channel_bounds(inputs())
    of_conditions = condition_bounds = None
    if conditions:
        rows = [data.u for data in samples()]
        of_conditions = Normalizer.gaussian(rows, names=channel_names(conditions))
        condition_bounds = channel_bounds(rows)
    targets = (data.y for data in samples())
    arrays = set.intersection(*(set(data.keys()) for data in samples()))
    return {
        "target_normalizer": Normalizer.gaussian(targets, names=channel_names(fields)),
        "coordinate_normalizer": Normalizer.from_bounds(lower - half, upper + half),
        "input_normalizer": input_normalizer,
        "fields": fields,
        "features": features,
        "location": location,
        "weighted": "weight" in arrays,
        "surface": "normal" in arrays,
        "feature_bounds": feature_bounds,
        "conditions": conditions,
        "condition_normalizer": of_conditions,
        "condition_bounds": condition_bounds,
    }
