"""How well a quantity of a sample, such as a drag coefficient, is predicted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scipy.stats import spearmanr
from torch import Tensor

from torch_geometric_flare.metrics import r2_score


@dataclass(frozen=True, kw_only=True)
class QuantityErrors:
    r"""Errors of one quantity over the test samples.

    Attributes:
        mean_absolute_error: Mean of the absolute error per sample.
        absolute_error_deviation: Its standard deviation; `None` for one sample.
        largest_absolute_error: Its largest value.
        worst_sample: The sample that has it.
        mean_absolute_error_of_training_mean: Mean absolute error of predicting the mean
            of the training samples for every sample; `None` where that is not known.
        r2: $R^2$ over the samples; `None` where all true values are the same.
        rank_correlation: Spearman's rank correlation of predicted and true values: one
            if the predictions order the samples as the truth does. `None` where all
            true or all predicted values are the same.
    """

    mean_absolute_error: float
    absolute_error_deviation: float | None
    largest_absolute_error: float
    worst_sample: int
    mean_absolute_error_of_training_mean: float | None
    r2: float | None
    rank_correlation: float | None


def quantity_errors(
    predicted: Tensor, true: Tensor, training_mean: float | None = None
) -> QuantityErrors:
    """Compare predicted with true values, beside predicting the training mean.

    Args:
        predicted: Predicted values.
        true: True values.
        training_mean: Mean of the true values of the training samples, if known.

    Shapes:
        - **predicted, true:** $(S)$, one number for each sample, at least one
    """
    predicted, true = predicted.double(), true.double()
    errors = (predicted - true).abs()
    varies, ordered = (values.unique().numel() > 1 for values in (true, predicted))
    baseline = None if training_mean is None else (true - training_mean).abs().mean()
    return QuantityErrors(
        mean_absolute_error=errors.mean().item(),
        absolute_error_deviation=errors.std().item() if errors.numel() > 1 else None,
        largest_absolute_error=errors.max().item(),
        worst_sample=int(errors.argmax()),
        mean_absolute_error_of_training_mean=None
        if baseline is None
        else float(baseline),
        r2=r2_score(predicted, true).item() if varies else None,
        rank_correlation=(
            float(spearmanr(predicted.numpy(), true.numpy()).statistic)
            if varies and ordered
            else None
        ),
    )


def describe_errors(name: str, errors: Mapping[str, Any]) -> str:
    """Return a line for people; what is not known is left out.

    Args:
        name: What the quantity is called.
        errors: Errors by the names of `QuantityErrors`.
    """
    baseline = "mean_absolute_error_of_training_mean"
    parts = [
        f"{label} {errors[key]:{digits}}"
        for label, key, digits in (
            ("mean absolute error", "mean_absolute_error", ".3g"),
            ("predicting the training mean", baseline, ".3g"),
            ("R²", "r2", ".2f"),
            ("rank correlation", "rank_correlation", ".2f"),
        )
        if errors[key] is not None
    ]
    return f"{name.replace('_', ' ')}: {', '.join(parts)}"
