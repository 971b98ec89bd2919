import pytest
import torch

from torch_geometric_flare.metrics.squared_error import ratio_of_norms, squared_error


def test_squares_at_each_point_and_channel():
    pred, target = torch.tensor([[1.0, 5.0]]), torch.tensor([[3.0, 4.0]])
    error, norm = squared_error(pred, target)
    assert (error.tolist(), norm.tolist()) == ([[4.0, 1.0]], [[9.0, 16.0]])
    assert error.dtype == norm.dtype == torch.float64
    for area in (torch.tensor([2.0]), torch.tensor([[2.0]])):
        error, norm = squared_error(pred, target, area)
        assert (error.tolist(), norm.tolist()) == ([[8.0, 2.0]], [[18.0, 32.0]])


def test_graphs_without_a_norm_are_named_once():
    error = torch.ones(3, 2)
    norm = torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    with pytest.raises(ValueError, match=r"graphs \[1, 2\]"):
        ratio_of_norms(error, norm)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_areas_that_are_none(value):
    with pytest.raises(ValueError, match="area has negative or non-finite"):
        squared_error(torch.ones(2), torch.ones(2), torch.tensor([1.0, value]))
