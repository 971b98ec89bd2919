import ctypes
import threading

import pytest
import torch

from torch_geometric_flare.functional import threads
from torch_geometric_flare.kernels.tasks import run_on_threads


@pytest.fixture(params=["of torch", "of Python"])
def pool(request, monkeypatch):
    if request.param == "of Python":
        monkeypatch.setattr(threads, "_openmp", lambda: None)
    elif threads._openmp() is None:
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
    def worker(task):
        callers.append((threading.get_ident(), task))
        meeting.wait(10)  # at the same time

    run_on_threads(worker, 1234, 2)
    assert len(set(callers)) == min(num_threads, 2)
    assert {task for _, task in callers} == {1234}
    assert torch.get_num_threads() == num_threads


def test_one_part_stays_on_this_thread(pool):
    callers = []
    worker = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(
        lambda task: callers.append(threading.get_ident())
    )
    run_on_threads(worker, 0, 1)
    assert callers == [threading.get_ident()]
