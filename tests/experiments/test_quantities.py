from dataclasses import replace

import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_flare.experiments import PIPE
from torch_geometric_flare.experiments.quantities import further_measures
from torch_geometric_flare.fields import Field

FIELDS = (Field("a", 1, ""), Field("b", 2, ""))


def total(data, fields):
    return {"total": fields["a"].sum().item(), "unknown": None}


def largest_error(predicted, true):
    return {"largest": (predicted["b"] - true["b"]).abs().max().item()}


def measure(truths, predictions, quantities=total):
    benchmark = replace(PIPE, quantities=quantities, errors=largest_error)
    samples = [Data(y=torch.tensor(y)) for y in truths]
    return further_measures(
        benchmark, samples, list(map(torch.tensor, predictions)), FIELDS
    )


def test_measures():
    truths = [[[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]], [[5.0, 1.0, 1.0]], [[6.0, 0.0, 0.0]]]
    predictions = [
        [[1.0, 0.0, 3.0], [3.0, 0.0, 0.0]],
        [[5.0, 0.0, 1.0]],
        [[4.0, 2.0, 2.0]],
    ]
    found = measure(truths, predictions)
    # Totals are 3, 5 and 6, predicted as 4, 5 and 4; their mean is 14 / 3.
    spread = (3 - 14 / 3) ** 2 + (5 - 14 / 3) ** 2 + (6 - 14 / 3) ** 2
    assert found == {
        "largest": pytest.approx(2.0),
        "total_true": pytest.approx(14 / 3),
        "total_predicted": pytest.approx(13 / 3),
        "total_mean_absolute_error": pytest.approx(1.0),
        "total_absolute_error_deviation": pytest.approx(1.0),  # of 1, 0 and 2
        "total_largest_absolute_error": pytest.approx(2.0),
        "total_worst_sample": 2,
        "total_r2": pytest.approx(1 - 5 / spread),
        "unknown_true": None,
        "unknown_predicted": None,
        "unknown_mean_absolute_error": None,
        "unknown_absolute_error_deviation": None,
        "unknown_largest_absolute_error": None,
        "unknown_worst_sample": None,
        "unknown_r2": None,
    }


def test_one_sample_has_no_r2():
    found = measure([[[1.0, 0.0, 0.0]]], [[[2.0, 0.0, 0.0]]])
    assert found["total_mean_absolute_error"] == 1.0 and found["total_r2"] is None
    assert found["total_absolute_error_deviation"] is None


def test_a_quantity_must_be_known_of_every_sample():
    def sometimes(data, fields):
        value = fields["a"].sum().item()
        return {"total": None if value > 4 else value}

    truths = [[[1.0, 0.0, 0.0]], [[5.0, 0.0, 0.0]]]
    found = measure(truths, [[[2.0, 0.0, 0.0]], [[3.0, 0.0, 0.0]]], sometimes)
    assert found["total_true"] is None and found["total_predicted"] == 2.5
    assert found["total_mean_absolute_error"] is found["total_r2"] is None
