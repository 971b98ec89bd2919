import pytest
import torch

from torch_geometric_flare.functional import PointBatch, pack_graphs


def batch_of(sizes):
    return torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))


@pytest.mark.parametrize(
    ("sizes", "packed"),
    [
        ([], []),
        ([0, 0], []),
        ([7], [[0]]),
        ([5, 5, 5], [[0, 1, 2]]),
        ([5, 0, 5], [[0, 2]]),
        ([5, 30, 12, 8], [[0, 1, 2, 3]]),
        ([9000, 3000, 1000], [[0], [1], [2]]),
        ([10, 9000, 20], [[0, 2], [1]]),
        ([9000, 10, 8990, 20], [[0, 2], [1, 3]]),
    ],
)
def test_packing(sizes, packed):
    assert pack_graphs(sizes) == (tuple(map(tuple, packed)), False)


def test_packing_on_cuda():
    assert pack_graphs([10, 0, 9000], "cuda", torch.bfloat16) == (((0, 2),), True)
    assert pack_graphs([10, 0, 9000], "cuda", torch.float32) == (((0,), (2,)), False)
    assert pack_graphs([10, 10], "cuda", torch.bfloat16) == (((0, 1),), False)


@pytest.mark.parametrize(
    "sizes", [[7], [5, 5], [1, 2, 63, 0, 500, 5000], [10, 900, 20, 905], [0, 3, 0]]
)
def test_round_trips(sizes):
    x = torch.randn(sum(sizes), 3)
    layout = PointBatch.from_batch(x, batch_of(sizes), len(sizes))
    assert layout.sizes == tuple(sizes)
    assert torch.equal(layout.unsort(layout.sort(x)), x)
    blocks = layout.split(layout.sort(x)) if sum(sizes) else []
    assert torch.equal(layout.unsort(layout.join(blocks)), x)
    parts = x.split(sizes)
    for dense, block in zip(layout.dense_batches, blocks, strict=True):
        for row, graph in zip(block, dense.graphs, strict=True):
            assert torch.equal(row[: sizes[graph]], parts[graph])
            assert not row[sizes[graph] :].any()


def test_equal_sizes_are_views_without_mask():
    x = torch.randn(12, 3)
    layout = PointBatch.from_batch(x, batch_of([4, 4, 4]))
    (dense,) = layout.dense_batches
    assert dense.mask is None and layout.order is None
    assert layout.split(x)[0].data_ptr() == x.data_ptr()


def test_neighbouring_large_graphs_stay_in_place():
    layout = PointBatch.from_sizes([9000, 3000, 20, 10])
    assert layout.order is None


@pytest.mark.parametrize("size", [-1, 2.0, True, None])
def test_sizes_are_numbers_of_points(size):
    with pytest.raises(ValueError, match=f"sizes holds {size}"):
        PointBatch.from_sizes([size, 3])


@pytest.mark.parametrize(
    ("sizes", "packed", "message"),
    [
        ((-8, 608), ((0, 1),), "sizes holds -8"),
        ((300, 300), ((0, 1), (1,)), r"graphs \[0, 1, 1\], .* exactly once: \[0, 1\]"),
        ((300, 300), ((0,),), r"graphs \[0\], "),
        ((300, 0), ((0, 1),), r"graphs \[0, 1\], .* exactly once: \[0\]"),
        ((300, 300), ((0, 2),), r"graphs \[0, 2\], "),
    ],
)
def test_a_layout_that_would_lead_astray_is_refused(sizes, packed, message):
    with pytest.raises(ValueError, match=message):
        PointBatch(sizes, packed)
    with pytest.raises(ValueError, match=r"order has shape \(5,\)"):
        PointBatch((3, 4), ((0, 1),), order=torch.arange(5))


def test_chunks_are_cut_once():
    layout = PointBatch.from_sizes([5, 0, 20])
    chunks = layout.chunks(4)
    assert layout.chunks(4) is chunks and len(layout.chunks(5)) == 5
    assert [chunk.rows for chunk in chunks][1:3] == [slice(4, 8), slice(8, 12)]
    assert [chunk.layout.sizes for chunk in chunks][:3] == [(4,), (1, 0, 3), (4,)]
    # Equal chunks share their layout, and with it their tasks.
    assert chunks[0].layout is chunks[2].layout


@pytest.mark.parametrize(
    ("batch", "batch_size", "message"),
    [
        (torch.tensor([0, 1, 0]), None, "unsorted"),
        (torch.tensor([0, 0]), None, r"shape \(2,\), expected \(3,\)"),
        (torch.tensor([[0, 0, 0]]), None, "shape"),
        (torch.tensor([-1, 0, 0]), None, "-1"),
        (torch.tensor([0.0, 0.0, 0.0]), None, "torch.float32"),
        (torch.tensor([False, False, True]), None, "torch.bool"),
        (torch.tensor([0, 0, 5]), 2, "graph 5 but batch_size is 2"),
        (torch.tensor([0, 0, 0]), -3, "-3"),
        (None, 2, "batch_size is 2 but batch is None"),
    ],
)
def test_errors(batch, batch_size, message):
    with pytest.raises(ValueError, match=message):
        PointBatch.from_batch(torch.randn(3, 2), batch, batch_size)
