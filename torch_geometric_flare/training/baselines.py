"""What a surrogate must beat: the mean, and a copy of the most similar sample."""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare.datasets import NearestSample
from torch_geometric_flare.metrics import relative_l2
from torch_geometric_flare.training.surrogate import Surrogate


class Comparison(NamedTuple):
    """Predictions of a surrogate and errors beside those of two baselines.

    Attributes:
        predictions: The field of each sample in its own units.
        relative_l2: Error of the surrogate on each sample.
        relative_l2_of_training_mean: Error of the constant mean of the training split.
        relative_l2_of_nearest_training_sample: Error of the field of the training
            sample of the most similar shape, carried over to the nearest points.
    """

    predictions: list[Tensor]
    relative_l2: Tensor
    relative_l2_of_training_mean: Tensor
    relative_l2_of_nearest_training_sample: Tensor

    def mean_errors(self) -> dict[str, float]:
        """The three errors under their names, averaged over the samples."""
        errors = self._asdict()
        del errors["predictions"]
        return {name: error.mean().item() for name, error in errors.items()}


def compare_with_baselines(
    surrogate: Surrogate, train: Sequence[Data], test: Sequence[Data]
) -> Comparison:
    """Measure a surrogate on all points of each test sample, beside two baselines.

    Args:
        surrogate: The trained surrogate; its `target_normalizer` holds the mean of the
            training split.
        train: The training split, with normalised coordinates `x` and field `y`.
        test: The test split; predicted on the device of the surrogate.

    Returns:
        Predictions, and one error a sample of `test` for each of the three, on the CPU.

    Raises:
        ValueError: If a split is empty or a field is missing.
    """
    if len(test) == 0:
        raise ValueError("test is empty: pass at least one sample")
    nearest = NearestSample(train)
    mean = surrogate.target_normalizer.shift.cpu()
    device = surrogate.target_normalizer.shift.device
    # Of a copy: `Data.to` moves the sample itself.
    predictions = [surrogate.predict(copy.copy(d).to(device)).cpu() for d in test]

    def errors(fields: Sequence[Tensor]) -> Tensor:
        pairs = zip(fields, test, strict=True)
        return torch.cat([relative_l2(field, data.y) for field, data in pairs])

    return Comparison(
        predictions,
        errors(predictions),
        errors([mean.expand_as(data.y) for data in test]),
        errors([nearest.predict(data) for data in test]),
    )
