import pytest
import torch

from torch_geometric_flare.functional import PointBatch, pack_graphs


def batch_of(sizes):
    return torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))


@pytest.mark.parametrize(
    ("sizes", "groups"),
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
def test_groups(sizes, groups):
    assert pack_graphs(sizes) == (groups, False)


def test_groups_on_cuda():
    assert pack_graphs([10, 0, 9000], "cuda", torch.bfloat16) == ([[0, 2]], True)
    assert pack_graphs([10, 0, 9000], "cuda", torch.float32) == ([[0], [2]], False)
    assert pack_graphs([10, 10], "cuda", torch.bfloat16) == ([[0, 1]], False)


@pytest.mark.parametrize(
    "sizes", [[7], [5, 5], [1, 2, 63, 0, 500, 5000], [10, 900, 20, 905], [0, 3, 0]]
)
def test_round_trips(sizes):
    x = torch.randn(sum(sizes), 3)
    layout = PointBatch.from_batch(x, batch_of(sizes), len(sizes))
    assert layout.sizes == tuple(sizes)
    assert torch.equal(layout.unsort(layout.sort(x)), x)
    blocks = layout.split(layout.sort(x))
    assert torch.equal(layout.unsort(layout.join(blocks)), x)
    parts = x.split(sizes)
    for group, block in zip(layout.groups, blocks, strict=True):
        for row, graph in zip(block, group.graphs, strict=True):
            assert torch.equal(row[: sizes[graph]], parts[graph])
            assert not row[sizes[graph] :].any()


def test_equal_sizes_are_views_without_mask():
    x = torch.randn(12, 3)
    layout = PointBatch.from_batch(x, batch_of([4, 4, 4]))
    (group,) = layout.groups
    assert group.mask is None and layout.order is None
    assert layout.split(x)[0].data_ptr() == x.data_ptr()


def test_neighbouring_large_graphs_stay_in_place():
    layout = PointBatch.from_sizes([9000, 3000, 20, 10])
    assert layout.order is None


def test_negative_sizes():
    with pytest.raises(ValueError, match="sizes holds -1"):
        PointBatch.from_sizes([-1, 3])


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
