"""What a surrogate must beat: the mean, and a copy of the most similar sample."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare.datasets import MeanSample, NearestSample
from torch_geometric_flare.surrogates import Surrogate
from torch_geometric_flare.training.errors import errors_per_field, mean_over_fields


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
    """

    predictions: list[Tensor]
    relative_l2: Tensor
    relative_l2_of_training_mean: Tensor
    relative_l2_of_nearest_training_sample: Tensor
    per_field: Mapping[str, Mapping[str, Tensor]]

    def mean_errors(self) -> dict[str, float]:
        """Return the three errors by their names, averaged over the samples.

        With several fields those of each follow, such as `relative_l2_pressure`.
        """
        means = {name: getattr(self, name).mean().item() for name in _KINDS}
        if len(self.per_field) > 1:
            means |= {
                f"{name}_{field}": error.mean().item()
                for field, errors in self.per_field.items()
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
    """
    if len(test) == 0:
        raise ValueError("test is empty: pass at least one sample")
    device = surrogate.target_normalizer.shift.device

    def with_input(data: Data) -> Data:
        # Copies: `Data.to` moves the sample itself.
        encoded = copy.copy(data)
        encoded.x = surrogate.encode_input(copy.copy(data).to(device))
        return encoded

    def errors(predictions: Sequence[Tensor]) -> dict[str, Tensor]:
        found = [
            errors_per_field(prediction, data, surrogate.fields)
            for prediction, data in zip(predictions, test, strict=True)
        ]
        return {
            field.name: torch.cat([sample[field.name] for sample in found])
            for field in surrogate.fields
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
    return Comparison(
        predictions,
        **{name: mean_over_fields(errors) for name, errors in measured.items()},
        per_field={
            field.name: {name: errors[field.name] for name, errors in measured.items()}
            for field in surrogate.fields
        },
    )
