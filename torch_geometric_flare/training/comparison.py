"""Comparison of a surrogate's errors with those of two baselines."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare._arguments import prefixed
from torch_geometric_flare.datasets import MeanSample, NearestSample
from torch_geometric_flare.surrogates import Surrogate
from torch_geometric_flare.surrogates.normalized_points import NormalizedPoints
from torch_geometric_flare.training.errors import (
    area_weighted_errors,
    errors_per_field,
    mean_over_fields,
    streams,
    zero_fields,
)
from torch_geometric_flare.training.flags import (
    count_gaps,
    warn_absolute,
    warn_gaps,
)


@dataclass(frozen=True)
class Comparison:
    """Predictions of a surrogate, its errors, and those of two baselines.

    Errors of a sample are averaged over its fields; `per_field` has those of each
    field. For a `QuerySurrogate`, fields at query points are included, and their names
    have the prefix `query_`.

    Attributes:
        predictions: The fields of each sample in physical units.
        relative_l2: Error of the surrogate on each sample.
        relative_l2_of_training_mean: Error of the mean of the training split: the mean
            field if points correspond, otherwise a constant (`datasets.MeanSample`).
        relative_l2_of_nearest_training_sample: Error of the fields of the training
            sample with the most similar shape, transferred to the nearest points.
        per_field: These three errors by name, for each field by name.
        absolute: For each field by name, the samples in which it is zero at every
            point. Their errors are absolute, in units of the surrogate's scale.
        scale: Scale of each channel by name of the field.
        area_weighted: For each field by name, the error of the surrogate on each
            sample, weighted by the points' `area` or `weight`
            (`metrics.area_weighted_relative_l2`); NaN if the field is zero. Empty if
            samples have neither.
        query_predictions: The fields at the query points of each sample; empty without
            query points.
    """

    predictions: list[Tensor]
    relative_l2: Tensor
    relative_l2_of_training_mean: Tensor
    relative_l2_of_nearest_training_sample: Tensor
    per_field: Mapping[str, Mapping[str, Tensor]]
    absolute: Mapping[str, list[int]] = field(default_factory=dict)
    scale: Mapping[str, list[float]] = field(default_factory=dict)
    area_weighted: Mapping[str, Tensor] = field(default_factory=dict)
    query_predictions: list[Tensor] = field(default_factory=list)

    def mean_errors(self) -> dict[str, float]:
        """Return the errors by name, averaged over the samples with a truth.

        These are the three errors, and `area_weighted_relative_l2` if samples have
        areas or weights. With several fields, the errors of each follow, such as
        `relative_l2_pressure`.
        """
        means = {name: getattr(self, name).nanmean().item() for name in _KINDS}
        weighted = {
            name: error.nanmean().item() for name, error in self.area_weighted.items()
        }
        if weighted:
            means["area_weighted_relative_l2"] = sum(weighted.values()) / len(weighted)
        if len(self.per_field) > 1:
            means |= {
                f"{name}_{of}": error.nanmean().item()
                for of, errors in self.per_field.items()
                for name, error in errors.items()
            }
            means |= {
                f"area_weighted_relative_l2_{of}": error
                for of, error in weighted.items()
            }
        return means

    def absolute_errors(self) -> dict[str, dict[str, Any]]:
        """Return the entry of `metrics.json` for fields that are zero in some samples.

        By name of the field: the `number` of these samples, the `samples`, the
        surrogate's `mean_absolute_error` on them in units of the scale, and this
        `scale`.
        """
        return {
            name: {
                "number": len(samples),
                "samples": samples,
                "mean_absolute_error": (
                    self.per_field[name]["relative_l2"][samples].mean().item()
                ),
                "scale": self.scale[name],
            }
            for name, samples in self.absolute.items()
        }


_KINDS = (
    "relative_l2",
    "relative_l2_of_training_mean",
    "relative_l2_of_nearest_training_sample",
)


def compare_with_baselines(
    surrogate: Surrogate, train: Sequence[Data], test: Sequence[Data]
) -> Comparison:
    """Evaluate a surrogate and two baselines on all points of each test sample.

    The most similar sample is determined by the model's input: the normalized
    coordinates and the features. Its fields are transferred to the nearest points, at
    query points by their input.

    Args:
        surrogate: The trained surrogate.
        train: The training split, with input `x` and fields `y`.
        test: The test split. It is predicted on the device of the surrogate and not
            modified.

    Returns:
        Predictions, and each of the three errors per sample of `test`, on the CPU.

    Raises:
        ValueError: If a split is empty or a field is missing.

    Warns:
        UserWarning: If a field is zero at every point of a sample of `test`, whose
            errors are then absolute, in units of the scale of `target_normalizer`; or
            if a true value is not finite, whose point is then ignored.
    """
    if len(test) == 0:
        raise ValueError("test is empty: pass at least one sample")
    device = surrogate.target_normalizer.shift.device
    predictions: list[tuple[Tensor, ...]] = []
    for number, data in enumerate(test):
        with prefixed(f"sample {number} of test"):
            # Copy, because `Data.to` modifies the sample.
            fields: Any = surrogate.predict(copy.copy(data).to(device))
        streams_fields = fields if isinstance(fields, tuple) else (fields,)
        predictions.append(tuple(values.cpu() for values in streams_fields))
    nearest = NearestSample(_with_input(data, surrogate, device) for data in train)
    measured: dict[str, dict[str, Tensor]] = {}
    absolute: dict[str, list[int]] = {}
    gaps: dict[str, dict[int, int]] = {}
    scales: dict[str, Tensor] = {}
    for index in range(len(predictions[0])):
        mean = MeanSample(streams(surrogate, data)[index][1] for data in train)
        rows: dict[str, list[dict[str, Tensor]]] = {kind: [] for kind in _KINDS}
        for number, data in enumerate(test):
            prefix, points, point_set = streams(surrogate, data)[index]
            scale = point_set.target_normalizer.scale.cpu()
            transferred = _transfer(surrogate, nearest, train, data, index, device)
            candidates = predictions[number][index], mean.predict(points), transferred
            for kind, candidate in zip(_KINDS, candidates, strict=True):
                with prefixed(f"sample {number} of test"):
                    errors = errors_per_field(
                        candidate, points, point_set.fields, scale, skip_gaps=True
                    )
                rows[kind].append(errors)
            for name in zero_fields(points.y, points, point_set.fields):
                absolute.setdefault(prefix + name, []).append(number)
            for name, (count,) in count_gaps(points, point_set.fields).items():
                if count:
                    gaps.setdefault(prefix + name, {})[number] = count
        for target_field in point_set.fields:
            measured[prefix + target_field.name] = {
                kind: torch.cat([errors[target_field.name] for errors in per_sample])
                for kind, per_sample in rows.items()
            }
        for name, columns in point_set.split(scale[None]).items():
            scales[prefix + name] = columns
    warn_absolute(absolute, scales)
    warn_gaps(gaps)
    return Comparison(
        [fields[0] for fields in predictions],
        **{
            kind: mean_over_fields({n: kinds[kind] for n, kinds in measured.items()})
            for kind in _KINDS
        },
        per_field=measured,
        absolute=absolute,
        scale={name: columns.flatten().tolist() for name, columns in scales.items()},
        area_weighted=_area_weighted(surrogate, [f[0] for f in predictions], test),
        query_predictions=[fields[1] for fields in predictions if len(fields) > 1],
    )


def _with_input(data: Data, point_set: NormalizedPoints, device: torch.device) -> Data:
    """Return a copy with the encoded input as `x`."""
    encoded = copy.copy(data)
    encoded.x = point_set.encode_input(copy.copy(data).to(device))
    return encoded


def _transfer(
    surrogate: Surrogate,
    nearest: NearestSample,
    train: Sequence[Data],
    data: Data,
    index: int,
    device: torch.device,
) -> Tensor:
    """Transfer the fields of the most similar sample to a set of points."""
    encoded = _with_input(data, surrogate, device)
    if index == 0:
        return nearest.predict(encoded)
    similar = train[nearest.nearest(encoded)]
    source, target = (
        _with_input(points, point_set, device)
        for _, points, point_set in (
            streams(surrogate, d)[index] for d in (similar, data)
        )
    )
    return NearestSample([source]).predict(target)


def _area_weighted(
    surrogate: Surrogate, predictions: Sequence[Tensor], test: Sequence[Data]
) -> dict[str, Tensor]:
    """Return area-weighted errors by field, NaN if undefined; may be empty."""
    errors = [
        area_weighted_errors(prediction, data, surrogate.fields)
        for prediction, data in zip(predictions, test, strict=True)
    ]
    nan = torch.tensor(torch.nan, device="cpu")
    by_field = {
        each.name: torch.stack([sample.get(each.name, nan) for sample in errors])
        for each in surrogate.fields
    }
    return {name: each for name, each in by_field.items() if each.isfinite().any()}
