import pytest
import torch

from torch_geometric_flare.metrics.graph_sum import graph_sum

pytestmark = pytest.mark.segment


def test_sums_each_graph_and_leaves_empty_ones_at_zero():
    values = torch.tensor([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    batch = torch.tensor([0, 0, 2])
    expected = [[3.0, 30.0], [0.0, 0.0], [4.0, 40.0], [0.0, 0.0]]
    total = graph_sum(values, batch, batch_size=4)
    assert total.tolist() == expected
    assert total.dtype == torch.float64
    assert graph_sum(values, batch).tolist() == expected[:3]
    assert graph_sum(values).tolist() == [[7.0, 70.0]]


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_any_integers_number_graphs(dtype):
    batch = torch.tensor([0, 0, 2], dtype=dtype)
    assert graph_sum(torch.ones(3), batch).tolist() == [2.0, 0.0, 1.0]


def test_no_points():
    assert graph_sum(torch.zeros(0, 2)).tolist() == [[0.0, 0.0]]
    empty = torch.zeros(0, dtype=torch.long)
    assert graph_sum(torch.zeros(0, 2), empty).shape == (0, 2)
    assert graph_sum(torch.zeros(0, 2), empty, 2).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_small_terms_survive_many_large_ones():
    # In single precision 2^24 + 1 is 2^24.
    values = torch.tensor([2.0**24, 1.0, 1.0])
    assert graph_sum(values, torch.zeros(3, dtype=torch.long)).item() == 2.0**24 + 2


def test_first_and_second_derivatives():
    values = torch.randn(7, 2, dtype=torch.double, requires_grad=True)
    batch = torch.tensor([0, 0, 0, 2, 2, 3, 3])

    def function(values):
        return graph_sum(values**3, batch, 5).square()

    assert torch.autograd.gradcheck(function, values)
    assert torch.autograd.gradgradcheck(function, values)


# The check is that of `PointBatch.from_batch`, whose tests have the other cases.
@pytest.mark.parametrize(
    ("batch", "batch_size", "message"),
    [
        (torch.tensor([0, 1]), None, r"shape \(2,\), expected \(3,\)"),
        (torch.tensor([0, 1, 2]), 2, "graph 2 but batch_size is 2"),
        (None, 2, "batch is None"),
    ],
)
def test_what_does_not_fit_is_refused(batch, batch_size, message):
    with pytest.raises(ValueError, match=message):
        graph_sum(torch.ones(3), batch, batch_size)
