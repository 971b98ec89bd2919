import torch

from torch_geometric_flare.kernels.tasks import Tasks


def test_tasks_cover_every_row_once():
    sizes = (0, 1, 16, 17, 5000, 0, 300_000, 3)
    tasks = Tasks.from_sizes(sizes)
    rows, columns = [], set()
    for graph, start, stop, place in tasks.table.tolist():
        assert sum(sizes[:graph]) <= start < stop <= sum(sizes[: graph + 1])
        rows += range(start, stop)
        taken = range(place, place - (-(stop - start) // 16) * 16)
        assert columns.isdisjoint(taken) and place % 16 == 0
        columns.update(taken)
    assert rows == list(range(sum(sizes)))
    assert max(columns) < tasks.num_columns
    assert (torch.bincount(tasks.table[:, 0]) <= 32).all()


def test_how_a_graph_is_cut_depends_on_nothing_else():
    alone = Tasks.from_sizes([70_000]).table[:, 1:3]
    behind = Tasks.from_sizes([5, 70_000, 20]).table
    assert torch.equal(behind[behind[:, 0] == 1][:, 1:3] - 5, alone)


def test_sums_by_graph():
    tasks = Tasks.from_sizes([5000, 0, 2])
    totals = torch.randn(len(tasks.table), 3)
    sums = tasks.by_graph(totals)
    torch.testing.assert_close(sums[0], totals[:-1].sum(dim=0))
    assert not sums[1].any()
    assert torch.equal(sums[2], totals[-1])
    whole = Tasks.from_sizes([5, 2])
    assert whole.whole and whole.by_graph(totals) is totals


def test_no_rows():
    assert Tasks.from_sizes([]).table.shape == (0, 4)
    assert Tasks.from_sizes([0, 0]).table.shape == (0, 4)
