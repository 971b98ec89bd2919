"""The errors of a surrogate on a data set, alone and beside two baselines."""

import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from torch_geometric_flare.datasets import MeanSample, NearestSample
from torch_geometric_flare.surrogates import Surrogate
from torch_geometric_flare.surrogates.query_surrogate import FOLLOW_BATCH
from torch_geometric_flare.training.errors import (
    area_weighted_errors,
    errors_per_field,
    graphs_of,
    mean_over_fields,
    predicted_streams,
    zero_fields,
)
from torch_geometric_flare.training.flags import (
    count_gaps,
    warn_absolute,
    warn_gaps,
)


def host_batches(dataset: Sequence[Data], batch_size: int) -> Iterator[Data]:
    """Yield batches in order, made on the CPU whatever torch's default device."""
    with torch.device("cpu"):
        # Without its own generator, a loader draws a seed from the global one.
        generator = torch.Generator("cpu")
        loader = DataLoader(
            dataset,
            batch_size=batch_size,
            generator=generator,
            follow_batch=FOLLOW_BATCH,
        )
        batches = iter(loader)
    while True:
        with torch.device("cpu"):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def evaluate(
    surrogate: Surrogate, dataset: Sequence[Data], batch_size: int = 1
) -> Tensor:
    """Return the relative error of each sample.

    Args:
        surrogate: A trained surrogate.
        dataset: Samples with their true fields `y`.
        batch_size: Samples predicted at once.

    Returns:
        One relative $L_2$ error per sample, the mean over the fields, in the order of
        `dataset`, on the CPU.

    Raises:
        ValueError: If `dataset` is empty or a field is missing.

    Warns:
        UserWarning: If a field is zero at every point of a sample, whose error is then
            absolute, in units of the scale of `target_normalizer`; or if a true value
            is not finite, which leaves its point out (nan where none is left).
    """
    return mean_over_fields(evaluate_per_field(surrogate, dataset, batch_size))


def evaluate_per_field(
    surrogate: Surrogate, dataset: Sequence[Data], batch_size: int = 1
) -> dict[str, Tensor]:
    """Return the relative error of each field of each sample.

    Args:
        surrogate: A trained surrogate.
        dataset: Samples with their true fields `y`.
        batch_size: Samples predicted at once.

    Returns:
        By the name of the field, one relative $L_2$ error per sample, in the order of
        `dataset`, on the CPU. Of a `QuerySurrogate`, the names of fields at query
        points have `query_` before them.

    Raises:
        ValueError: If `dataset` is empty or a field is missing.

    Warns:
        UserWarning: If a field is zero at every point of a sample, whose error is then
            absolute, in units of the scale of `target_normalizer`; or if a true value
            is not finite, which leaves its point out (nan where none is left).
    """
    if len(dataset) == 0:
        raise ValueError("dataset is empty: pass at least one sample")
    device = surrogate.target_normalizer.shift.device
    errors: dict[str, list[Tensor]] = defaultdict(list)
    zeros: dict[str, list[int]] = defaultdict(list)
    gaps: dict[str, dict[int, int]] = defaultdict(dict)
    scales: dict[str, Tensor] = {}
    first = 0  # number of the batch's first sample in the data set
    for batch in host_batches(dataset, batch_size):
        batch = batch.to(device)
        predicted = predicted_streams(surrogate, surrogate.predict(batch), batch)
        for prefix, prediction, points, known in predicted:
            scale = known.target_normalizer.scale
            measured = errors_per_field(
                prediction, points, known.fields, scale, skip_gaps=True
            )
            zero = zero_fields(points.y, points, known.fields)
            counts = count_gaps(points, known.fields)
            for name, columns in known.split(scale.unsqueeze(0)).items():
                scales[prefix + name] = columns
                errors[prefix + name].append(measured[name].cpu())
                zeros[prefix + name] += [
                    first + graph
                    for graph in zero.get(name, ())
                    if measured[name][graph].isfinite()
                ]
                gaps[prefix + name] |= {
                    first + graph: count
                    for graph, count in enumerate(counts.get(name, ()))
                    if count
                }
        first += graphs_of(batch)[1]
    warn_absolute(zeros, scales)
    warn_gaps(gaps)
    return {name: torch.cat(parts) for name, parts in errors.items()}


@dataclass(frozen=True)
class Comparison:
    """Predictions of a surrogate and errors beside those of two baselines.

    Errors of a sample are the mean over its fields; `per_field` has those of each.

    Attributes:
        predictions: The fields of each sample in their own units.
        relative_l2: Error of the surrogate on each sample.
        relative_l2_of_training_mean: Error of the mean of the training split: the
            mean field where points correspond, else a constant (`datasets.MeanSample`).
        relative_l2_of_nearest_training_sample: Error of the fields of the training
            sample of the most similar shape, carried over to the nearest points.
        per_field: For each field by its name, these three errors by their names.
        absolute: For each field by its name, the samples in which it is zero at every
            point. Their errors are absolute, in units of the surrogate's scale.
        scale: The scale of each channel, by the name of the field.
        area_weighted: For each field by its name, the error of the surrogate on each
            sample with every point weighted by its `area` or `weight`
            (`metrics.area_weighted_relative_l2`); nan where the field is zero. Empty if
            samples have neither.
    """

    predictions: list[Tensor]
    relative_l2: Tensor
    relative_l2_of_training_mean: Tensor
    relative_l2_of_nearest_training_sample: Tensor
    per_field: Mapping[str, Mapping[str, Tensor]]
    absolute: Mapping[str, list[int]] = field(default_factory=dict)
    scale: Mapping[str, list[float]] = field(default_factory=dict)
    area_weighted: Mapping[str, Tensor] = field(default_factory=dict)

    def mean_errors(self) -> dict[str, float]:
        """Return the errors by their names, averaged over the samples.

        These are the three, then `area_weighted_relative_l2` where samples say what
        their points stand for. With several fields those of each follow, such as
        `relative_l2_pressure`.
        """
        means = {name: getattr(self, name).mean().item() for name in _KINDS}
        weighted = {
            name: error.nanmean().item() for name, error in self.area_weighted.items()
        }
        if weighted:
            means["area_weighted_relative_l2"] = sum(weighted.values()) / len(weighted)
        if len(self.per_field) > 1:
            means |= {
                f"{name}_{of}": error.mean().item()
                for of, errors in self.per_field.items()
                for name, error in errors.items()
            }
            means |= {
                f"area_weighted_relative_l2_{of}": error
                for of, error in weighted.items()
            }
        return means

    def absolute_errors(self) -> dict[str, dict[str, Any]]:
        """Return what `metrics.json` says of the fields that are zero in some samples.

        By the name of the field, their `number`, the `samples`, the surrogate's
        `mean_absolute_error` on them in units of the scale, and that `scale`.
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
    """Measure a surrogate on all points of each test sample, beside two baselines.

    The most similar sample is found by the model's input: the normalised coordinates,
    and the features beside them.

    Args:
        surrogate: The trained surrogate.
        train: The training split, with input `x` and fields `y`.
        test: The test split; predicted on the device of the surrogate, and left as and
            where it is.

    Returns:
        Predictions, and one error per sample of `test` for each of the three, on the
        CPU.

    Raises:
        ValueError: If a split is empty or a field is missing.

    Warns:
        UserWarning: If a field is zero at every point of a sample of `test`, whose
            errors are then absolute, in units of the scale of `target_normalizer`; or
            if a true value is not finite, which leaves its point out.
    """
    if len(test) == 0:
        raise ValueError("test is empty: pass at least one sample")
    device = surrogate.target_normalizer.shift.device
    scale = surrogate.target_normalizer.scale.cpu()

    def with_input(data: Data) -> Data:
        # Copies: `Data.to` moves the sample itself.
        encoded = copy.copy(data)
        encoded.x = surrogate.encode_input(copy.copy(data).to(device))
        return encoded

    def errors(predictions: Sequence[Tensor]) -> dict[str, Tensor]:
        per_sample = [
            errors_per_field(prediction, data, surrogate.fields, scale, skip_gaps=True)
            for prediction, data in zip(predictions, test, strict=True)
        ]
        return {
            each.name: torch.cat([sample[each.name] for sample in per_sample])
            for each in surrogate.fields
        }

    nearest = NearestSample(with_input(data) for data in train)
    mean = MeanSample(train)
    predictions = [surrogate.predict(copy.copy(d).to(device)).cpu() for d in test]
    measured = dict(
        zip(
            _KINDS,
            (
                errors(predictions),
                errors([mean.predict(data) for data in test]),
                errors([nearest.predict(with_input(data)) for data in test]),
            ),
            strict=True,
        )
    )
    absolute: dict[str, list[int]] = {}
    gaps: dict[str, dict[int, int]] = {}
    for number, data in enumerate(test):
        for name in zero_fields(data.y, data, surrogate.fields):
            absolute.setdefault(name, []).append(number)
        for name, (count,) in count_gaps(data, surrogate.fields).items():
            if count:
                gaps.setdefault(name, {})[number] = count
    scales = surrogate.split(surrogate.target_normalizer.scale[None])
    warn_absolute(absolute, scales)
    warn_gaps(gaps)
    return Comparison(
        predictions,
        **{name: mean_over_fields(errors) for name, errors in measured.items()},
        per_field={
            each.name: {name: errors[each.name] for name, errors in measured.items()}
            for each in surrogate.fields
        },
        absolute=absolute,
        scale={name: columns.flatten().tolist() for name, columns in scales.items()},
        area_weighted=_area_weighted(surrogate, predictions, test),
    )


def _area_weighted(
    surrogate: Surrogate, predictions: Sequence[Tensor], test: Sequence[Data]
) -> dict[str, Tensor]:
    """Return area-weighted errors by field, nan where there is none; maybe empty."""
    errors = [
        area_weighted_errors(prediction, data, surrogate.fields)
        for prediction, data in zip(predictions, test, strict=True)
    ]
    none = torch.tensor(torch.nan)
    by_field = {
        each.name: torch.stack([sample.get(each.name, none) for sample in errors])
        for each in surrogate.fields
    }
    return {name: each for name, each in by_field.items() if each.isfinite().any()}
