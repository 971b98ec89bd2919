import pytest
import torch

from torch_geometric_flare.functional import (
    PointBatch,
    ragged_flare_attention,
    ragged_flare_decode,
    ragged_flare_encode,
    reference_flare_attention,
)

SIZES = (1, 2, 63, 0, 500, 5000, 490)


def draw(sizes, dtype=torch.float64, device="cpu", width=4):
    q = torch.randn(3, 5, width, dtype=dtype, device=device)
    k, v = torch.randn(2, sum(sizes), 3, width, dtype=dtype, device=device)
    return q, k, v


def one_by_one(q, k, v, sizes):
    """The reference on each graph by itself."""
    parts = zip(k.split(sizes), v.split(sizes), strict=True)
    outputs = [
        reference_flare_attention(q, a.transpose(0, 1)[None], b.transpose(0, 1)[None])
        for a, b in parts
    ]
    return torch.cat([y[0].transpose(0, 1) for y in outputs])


def test_equals_graphs_one_by_one():
    q, k, v = draw(SIZES)
    layout = PointBatch.from_sizes(SIZES)
    y = ragged_flare_attention(q, layout.sort(k), layout.sort(v), layout)
    torch.testing.assert_close(layout.unsort(y), one_by_one(q, k, v, SIZES))


def test_encode_and_decode_equal_attention():
    q, k, v = draw(SIZES)
    layout = PointBatch.from_sizes(SIZES)
    k, v = layout.sort(k), layout.sort(v)
    state = ragged_flare_encode(q, k, v, layout, scale=0.6)
    assert state.value.shape == (7, 3, 5, 4)
    assert (state.lse[3] == -torch.inf).all() and not state.value[3].any()
    torch.testing.assert_close(
        ragged_flare_decode(q, k, state.value, layout, scale=0.6),
        ragged_flare_attention(q, k, v, layout, scale=0.6),
    )


def test_no_points_at_all():
    q, k, v = draw((0, 0))
    layout = PointBatch.from_sizes((0, 0))
    assert ragged_flare_attention(q, k, v, layout).shape == (0, 3, 4)
    state = ragged_flare_encode(q, k, v, layout)
    assert state.value.shape == (2, 3, 5, 4)
    assert ragged_flare_decode(q, k, state.value, layout).shape == (0, 3, 4)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_cuda(dtype):
    q, k, v = draw(SIZES, dtype, "cuda", width=8)
    layout = PointBatch.from_sizes(SIZES, "cuda", dtype)
    assert layout.varlen == (dtype == torch.bfloat16)
    y = ragged_flare_attention(q, layout.sort(k), layout.sort(v), layout)
    expected = one_by_one(q.double(), k.double(), v.double(), SIZES)
    tolerance = 1e-4 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(
        layout.unsort(y).double(), expected, atol=tolerance, rtol=tolerance
    )


def test_shapes_that_do_not_agree_are_refused():
    q, k, v = draw((700,))
    layout = PointBatch.from_sizes((700,))
    for arguments, message in (
        ((q.transpose(0, 1), k, v, layout), "q has shape"),
        ((q[..., :2], k, v, layout), "q has shape"),
        ((q, k, v[:10], layout), "v has shape"),
        ((q, k, v, PointBatch.from_sizes((701,))), "layout has 701 points"),
    ):
        for function in (ragged_flare_attention, ragged_flare_encode):
            with pytest.raises(ValueError, match=message):
                function(*arguments)
    with pytest.raises(ValueError, match="z has shape"):
        ragged_flare_decode(q, k, torch.randn(1, 3, 2, 4), layout)
