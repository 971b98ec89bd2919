import pytest
import torch

from torch_geometric_flare.functional import PointBatch, ragged_self_attention
from torch_geometric_flare.testing import assert_same_function

SIZES = (3, 0, 300, 5, 301)


def explicit(sizes, q, k, v, scale):
    parts = zip(*(t.split(sizes) for t in (q, k, v)), strict=True)
    results = []
    for q_part, k_part, v_part in parts:
        scores = torch.einsum("nhd,mhd->hnm", q_part, k_part)
        weights = (scale * scores).softmax(-1)
        results.append(torch.einsum("hnm,mhd->nhd", weights, v_part))
    return torch.cat(results)


@pytest.mark.parametrize("sizes", [SIZES, (4, 4), (1,)])
def test_explicit_scores_of_each_graph(sizes):
    layout = PointBatch.from_sizes(sizes, dtype=torch.float64)
    q, k, v = torch.randn(3, sum(sizes), 2, 4, dtype=torch.float64)

    def ragged(q, k, v):
        rows = map(layout.sort, (q, k, v))
        return layout.unsort(ragged_self_attention(*rows, layout, scale=0.3))

    def reference(q, k, v):
        return explicit(sizes, q, k, v, 0.3)

    second_order = sum(sizes) < 10
    assert_same_function(ragged, reference, (q, k, v), second_order=second_order)


def test_under_a_transform():
    layout = PointBatch.from_sizes((4, 6), dtype=torch.float64)
    q, k, v = torch.randn(3, 10, 2, 4, dtype=torch.float64)

    def loss(q):
        return ragged_self_attention(q, k, v, layout, scale=0.3).square().sum()

    def reference(q):
        return explicit((4, 6), q, k, v, 0.3).square().sum()

    expected = torch.func.hessian(reference)(q)
    torch.testing.assert_close(torch.func.hessian(loss)(q), expected)


def test_no_points_take_part_in_backward():
    layout = PointBatch.from_sizes((0,))
    leaves = [torch.empty(0, 2, 4, requires_grad=True) for _ in range(3)]
    y = ragged_self_attention(*leaves, layout, scale=1.0)
    assert y.shape == (0, 2, 4)
    y.sum().backward()
    assert all(t.grad is not None for t in leaves)


@pytest.mark.cuda
def test_the_kernel_for_ragged_sequences():
    q, k, v = torch.randn(3, sum(SIZES), 2, 8, device="cuda", dtype=torch.bfloat16)
    layout = PointBatch.from_sizes(SIZES, "cuda", torch.bfloat16)
    assert layout.varlen
    found = ragged_self_attention(q, k, v, layout, scale=0.3)
    expected = explicit(SIZES, q.float(), k.float(), v.float(), 0.3)
    torch.testing.assert_close(found.float(), expected, atol=0.02, rtol=0)
