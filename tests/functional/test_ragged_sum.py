import pytest
import torch

from torch_geometric_flare.functional import (
    PointBatch,
    ragged_sum_decode,
    ragged_sum_encode,
)

SIZES = (3, 0, 700, 5)


def draw(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype)


def test_sums_of_each_graph_and_back():
    layout = PointBatch.from_sizes(SIZES)
    assert layout.order is not None
    weights, values = draw(708, 2, 4), draw(708, 2, 3)
    state = ragged_sum_encode(layout.sort(weights), layout.sort(values), layout)
    y = layout.unsort(ragged_sum_decode(layout.sort(weights), state.total, layout))
    parts = zip(weights.split(SIZES), values.split(SIZES), y.split(SIZES), strict=True)
    for graph, (w, f, found) in enumerate(parts):
        total = torch.einsum("nhg,nhd->hgd", w, f)
        torch.testing.assert_close(state.total[graph], total)
        torch.testing.assert_close(state.weight[graph], w.sum(0))
        torch.testing.assert_close(found, torch.einsum("nhg,hgd->nhd", w, total))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_sums_are_in_single_precision_at_least(dtype):
    layout = PointBatch.from_sizes((400,))
    weights = torch.ones(400, 1, 2, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        state = ragged_sum_encode(weights, weights, layout)
    assert state.total.dtype == state.weight.dtype == torch.float32
    # bfloat16 counts to 256.
    assert (state.total == 400).all() and (state.weight == 400).all()


def test_no_points_take_part_in_backward():
    layout = PointBatch.from_sizes((0, 0))
    weights, values = (torch.empty(0, 1, 2, requires_grad=True) for _ in range(2))
    state = ragged_sum_encode(weights, values, layout)
    assert state.total.shape == (2, 1, 2, 2) and not state.total.any()
    y = ragged_sum_decode(weights, state.total, layout)
    assert y.shape == (0, 1, 2)
    y.sum().backward()
    assert weights.grad is not None and values.grad is not None
