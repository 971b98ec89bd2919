"""What a surrogate must beat: the mean, and a copy of the most similar sample."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare.datasets import MeanSample, NearestSample
from torch_geometric_flare.surrogates import Surrogate
from torch_geometric_flare.training.errors import (
    errors_per_field,
    mean_over_fields,
    zero_fields,
)
from torch_geometric_flare.training.flags import warn_absolute


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
    """

    predictions: list[Tensor]
    relative_l2: Tensor
    relative_l2_of_training_mean: Tensor
    relative_l2_of_nearest_training_sample: Tensor
    per_field: Mapping[str, Mapping[str, Tensor]]
    absolute: Mapping[str, list[int]] = field(default_factory=dict)

    def mean_errors(self) -> dict[str, float]:
        """Return the three errors by their names, averaged over the samples.

        With several fields those of each follow, such as `relative_l2_pressure`.
        """
        means = {name: getattr(self, name).mean().item() for name in _KINDS}
        if len(self.per_field) > 1:
            means |= {
                f"{name}_{of}": error.mean().item()
                for of, errors in self.per_field.items()
                for name, error in errors.items()
            }
        return means


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
            errors are then absolute, in units of the scale of `target_normalizer`.
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
        found = [
            errors_per_field(prediction, data, surrogate.fields, scale)
            for prediction, data in zip(predictions, test, strict=True)
        ]
        return {
            each.name: torch.cat([sample[each.name] for sample in found])
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
    for number, data in enumerate(test):
        for name in zero_fields(data.y, data, surrogate.fields):
            absolute.setdefault(name, []).append(number)
    warn_absolute(absolute, surrogate.split(surrogate.target_normalizer.scale[None]))
    return Comparison(
        predictions,
        **{name: mean_over_fields(errors) for name, errors in measured.items()},
        per_field={
            each.name: {name: errors[each.name] for name, errors in measured.items()}
            for each in surrogate.fields
        },
        absolute=absolute,
    )
