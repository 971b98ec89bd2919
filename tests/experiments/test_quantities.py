from dataclasses import replace

import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_flare.experiments import PIPE
from torch_geometric_flare.experiments.quantities import (
    describe_quantities,
    extra_metrics,
)
from torch_geometric_flare.fields import Field

FIELDS = (Field("a", 1, ""), Field("b", 2, ""))


def total(data, fields):
    return {"total": fields["a"].sum().item(), "unknown": None}


def largest_error(predicted, true):
    return {"largest": (predicted["b"] - true["b"]).abs().max().item()}


def measure(truths, predictions, quantities=total, train=(1.0, 5.0)):
    benchmark = replace(PIPE, quantities_of_interest=quantities, errors=largest_error)
    samples = [Data(y=torch.tensor(y)) for y in truths]
    trained = [Data(y=torch.tensor([[a, 0.0, 0.0]])) for a in train]
    return extra_metrics(
        benchmark, trained, samples, list(map(torch.tensor, predictions)), FIELDS
    )


def test_measures():
    truths = [[[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]], [[5.0, 1.0, 1.0]], [[6.0, 0.0, 0.0]]]
    predictions = [
        [[1.0, 0.0, 3.0], [3.0, 0.0, 0.0]],
        [[5.0, 0.0, 1.0]],
        [[4.5, 2.0, 2.0]],
    ]
    found = measure(truths, predictions)
    # Totals are 3, 5 and 6, predicted as 4, 5 and 4.5: in the order 1, 3, 2. Their mean
    # is 14 / 3, and that of the training samples 3.
    spread = (3 - 14 / 3) ** 2 + (5 - 14 / 3) ** 2 + (6 - 14 / 3) ** 2
    assert found == {
        "largest": pytest.approx(2.0),
        "total_true": pytest.approx(14 / 3),
        "total_predicted": pytest.approx(13.5 / 3),
        "total_mean_absolute_error": pytest.approx(2.5 / 3),
        "total_absolute_error_deviation": pytest.approx(0.7637626),  # of 1, 0 and 1.5
        "total_largest_absolute_error": pytest.approx(1.5),
        "total_worst_sample": 2,
        "total_mean_absolute_error_of_training_mean": pytest.approx(5 / 3),  # 0, 2, 3
        "total_r2": pytest.approx(1 - 3.25 / spread),
        "total_rank_correlation": pytest.approx(0.5),
        "unknown_true": None,
        "unknown_predicted": None,
        "unknown_mean_absolute_error": None,
        "unknown_absolute_error_deviation": None,
        "unknown_largest_absolute_error": None,
        "unknown_worst_sample": None,
        "unknown_mean_absolute_error_of_training_mean": None,
        "unknown_r2": None,
        "unknown_rank_correlation": None,
    }
    assert describe_quantities(found) == {
        "total": "total: mean absolute error 0.833, predicting the training mean 1.67, "
        "R² 0.30, rank correlation 0.50"
    }


def test_one_sample_has_no_r2():
    found = measure([[[1.0, 0.0, 0.0]]], [[[2.0, 0.0, 0.0]]])
    assert found["total_mean_absolute_error"] == 1.0 and found["total_r2"] is None
    assert found["total_absolute_error_deviation"] is None
    assert found["total_rank_correlation"] is None
    assert describe_quantities(found) == {
        "total": "total: mean absolute error 1, predicting the training mean 2"
    }


def test_the_same_prediction_for_all_has_no_rank_correlation():
    found = measure(
        [[[1.0, 0.0, 0.0]], [[3.0, 0.0, 0.0]]], [[[2.0, 0.0, 0.0]], [[2.0, 0.0, 0.0]]]
    )
    assert found["total_r2"] == 0.0 and found["total_rank_correlation"] is None


def test_ties_share_their_rank():
    values = [1.0, 2.0, 2.0, 4.0]
    found = measure(
        [[[v, 0.0, 0.0]] for v in values], [[[v, 0.0, 0.0]] for v in (4.0, 3, 2, 1)]
    )
    # Ranks 1, 2.5, 2.5, 4 against 4, 3, 2, 1: covariance -4.5, variances 4.5 and 5.
    assert found["total_rank_correlation"] == pytest.approx(-4.5 / 22.5**0.5)


def test_the_training_split_is_not_read_where_nothing_is_known():
    def unknown(data, fields):
        assert data.y[0, 0] < 10, "a training sample"
        return {"total": None}

    sample = [[[1.0, 0.0, 0.0]]]
    found = measure(sample, sample, unknown, train=(100.0,))
    assert found["total_mean_absolute_error_of_training_mean"] is None
    assert describe_quantities(found) == {}


@pytest.mark.parametrize("gap", [float("nan"), float("inf")])
def test_a_quantity_of_a_truth_with_gaps_is_unknown(gap):
    truths = [[[1.0, 0.0, 0.0]], [[gap, 0.0, 0.0]]]
    predictions = [[[2.0, 0.0, 0.0]], [[3.0, 0.0, 0.0]]]
    found = measure(truths, predictions)
    assert found["total_true"] is None and found["total_predicted"] == 2.5
    found = measure(predictions, predictions, train=(1.0, gap))
    assert found["total_mean_absolute_error_of_training_mean"] is None
    assert found["total_r2"] == 1.0


def test_a_quantity_must_be_known_of_every_sample():
    def sometimes(data, fields):
        value = fields["a"].sum().item()
        return {"total": None if value > 4 else value}

    truths = [[[1.0, 0.0, 0.0]], [[5.0, 0.0, 0.0]]]
    found = measure(truths, [[[2.0, 0.0, 0.0]], [[3.0, 0.0, 0.0]]], sometimes)
    assert found["total_true"] is None and found["total_predicted"] == 2.5
    assert found["total_mean_absolute_error"] is found["total_r2"] is None
