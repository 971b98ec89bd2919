import ctypes
import threading

import pytest
import torch

from torch_geometric_flare.kernels import tasks as module
from torch_geometric_flare.kernels.tasks import Kernel, RowTasks


def test_tasks_cover_every_row_once():
    sizes = (0, 1, 16, 17, 5000, 0, 300_000, 3)
    tasks = RowTasks.from_sizes(sizes)
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
    alone = RowTasks.from_sizes([70_000]).table[:, 1:3]
    behind = RowTasks.from_sizes([5, 70_000, 20]).table
    assert torch.equal(behind[behind[:, 0] == 1][:, 1:3] - 5, alone)


def test_sums_by_graph():
    tasks = RowTasks.from_sizes([5000, 0, 2])
    totals = torch.randn(len(tasks.table), 3)
    sums = tasks.by_graph(totals)
    torch.testing.assert_close(sums[0], totals[:-1].sum(dim=0))
    assert not sums[1].any()
    assert torch.equal(sums[2], totals[-1])
    whole = RowTasks.from_sizes([5, 2])
    assert whole.whole and whole.by_graph(totals) is totals


def test_no_rows():
    assert RowTasks.from_sizes([]).table.shape == (0, 4)
    assert RowTasks.from_sizes([0, 0]).table.shape == (0, 4)


@pytest.fixture(params=["of torch", "of Python"])
def pool(request, monkeypatch):
    if request.param == "of Python":
        monkeypatch.setattr(module, "_openmp", lambda: None)
    elif module._openmp() is None:
        pytest.skip("torch comes without OpenMP, or with another")


@pytest.fixture(params=[1, 2, 3])
def num_threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_every_thread_is_called(pool, num_threads):
    callers, meeting = [], threading.Barrier(min(num_threads, 2))

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def worker(address):
        work = tuple((ctypes.c_int64 * 4).from_address(address))
        callers.append((threading.get_ident(), work))
        meeting.wait(10)  # at the same time

    table = torch.arange(8).view(2, 4)
    Kernel(worker, None)(table, 2, 1234)
    assert len({thread for thread, _ in callers}) == min(num_threads, 2)
    (work,) = {work for _, work in callers}
    assert work == (0, 2, table.data_ptr(), 1234)
    assert torch.get_num_threads() == num_threads


def test_one_part_stays_on_this_thread(pool):
    callers = []
    worker = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(
        lambda task: callers.append(threading.get_ident())
    )
    Kernel(worker, None)(torch.zeros(3, 4, dtype=torch.long), 1)
    assert callers == [threading.get_ident()]
