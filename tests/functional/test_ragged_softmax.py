import pytest
import torch

from torch_geometric_flare.functional import PointBatch, ragged_softmax_encode
from torch_geometric_flare.testing import (
    assert_merge_associative,
    assert_same_function,
)


def inputs(points, heads=2, latents=3, width=4, dtype=torch.float64):
    torch.manual_seed(0)
    scores = 3 * torch.randn(points, heads, latents, dtype=dtype)
    return scores, torch.randn(points, heads, width, dtype=dtype)


def transcription(scores, values, sizes):
    """One graph, head and latent after the other."""
    value, lse = [], []
    for s, v in zip(scores.split(sizes), values.split(sizes), strict=True):
        for h in range(s.size(1)):
            for m in range(s.size(2)):
                weights = s[:, h, m].exp()
                value.append(weights @ v[:, h] / weights.sum())
                lse.append(weights.sum().log())
    return torch.cat(value + [torch.stack(lse)])


@pytest.mark.parametrize("sizes", [(7,), (4, 4), (1, 600, 2), (700, 3)])
def test_formula_and_gradients(sizes):
    layout = PointBatch.from_sizes(sizes, dtype=torch.float64)

    def ours(scores, values):
        state = ragged_softmax_encode(layout.sort(scores), layout.sort(values), layout)
        return torch.cat([state.value.flatten(), state.lse.flatten()])

    def theirs(scores, values):
        return transcription(scores, values, sizes)

    assert_same_function(ours, theirs, inputs(sum(sizes)), second_order=True)


def test_an_empty_graph_has_the_state_of_no_points():
    scores, values = inputs(9)
    layout = PointBatch.from_sizes((4, 0, 5))
    state = ragged_softmax_encode(scores, values, layout)
    assert (state.value[1] == 0).all() and (state.lse[1] == -torch.inf).all()
    alone = ragged_softmax_encode(scores[4:], values[4:], PointBatch.from_sizes((5,)))
    torch.testing.assert_close(state.value[2], alone.value[0])


def test_no_points_at_all_take_part_in_backward():
    scores, values = (t.requires_grad_() for t in inputs(0))
    state = ragged_softmax_encode(scores, values, PointBatch.from_sizes((0, 0)))
    assert state.value.shape == (2, 2, 3, 4) and (state.lse == -torch.inf).all()
    state.value.sum().backward()
    assert scores.grad.shape == scores.shape and values.grad.shape == values.shape


def test_parts_merge_into_the_whole():
    scores, values = inputs(30)
    parts = [
        ragged_softmax_encode(s, v, PointBatch.from_sizes((len(s),)))
        for s, v in zip(scores.split([9, 1, 20]), values.split([9, 1, 20]), strict=True)
    ]
    assert_merge_associative(*parts)
    merged = parts[0].merge(parts[1]).merge(parts[2])
    whole = ragged_softmax_encode(scores, values, PointBatch.from_sizes((30,)))
    torch.testing.assert_close(tuple(merged), tuple(whole))


def test_states_are_in_single_precision_at_least():
    scores, values = inputs(500, dtype=torch.float32)
    half = [t.bfloat16() for t in (scores, values)]
    layout = PointBatch.from_sizes((500,))
    with torch.autocast("cpu", torch.bfloat16):
        state = ragged_softmax_encode(*half, layout)
    expected = ragged_softmax_encode(*(t.float() for t in half), layout)
    assert state.value.dtype == state.lse.dtype == torch.float32
    torch.testing.assert_close(tuple(state), tuple(expected))


def test_shapes_that_do_not_agree():
    scores, values = inputs(5)
    layout = PointBatch.from_sizes((5,))
    for wrong in ((scores[:4], values), (scores, values[:, :1]), (scores[0], values)):
        with pytest.raises(ValueError, match=r"expected \[N, H, M\] and \[N, H, D\]"):
            ragged_softmax_encode(*wrong, layout)
    with pytest.raises(ValueError, match="N=4 points in the layout"):
        ragged_softmax_encode(scores, values, PointBatch.from_sizes((4,)))
