import os
import time

import pytest
import torch
import torch.distributed as dist
from torch import nn

from torch_geometric_flare import FLAREConv
from torch_geometric_flare.functional import distributed_copy, distributed_sum
from torch_geometric_flare.testing import assert_point_parallel, run_processes


class Alone(FLAREConv):
    """Takes the points of each process for all there are."""

    def forward(self, x, batch=None, batch_size=None, group=None):
        return super().forward(x, batch, batch_size)


class Centred(nn.Module):
    """Subtracts the mean over all graphs, with the right gradient or a wrong one."""

    def __init__(self, exact):
        super().__init__()
        self.exact = exact
        self.scale = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def forward(self, x, batch=None, batch_size=None, group=None):
        total, count = x.sum(0), torch.tensor(float(len(x)))
        if group is not None:
            dist.all_reduce(count)
            total = distributed_sum(total, group)
            if self.exact:
                total = distributed_copy(total, group)
        return self.scale * (x - total / count)


def test_the_law_holds_where_it_should():
    assert_point_parallel(Centred(exact=True), 3, sizes=(5, 0, 8))


def test_the_law_notices_a_process_that_keeps_to_itself():
    conv = Alone(4, heads=2, num_latents=3).double()
    with torch.no_grad():
        conv.out.weight.normal_()
    with pytest.raises(AssertionError):
        assert_point_parallel(conv, 4)
    # One that has all the points is right, and so is one that has none.
    assert_point_parallel(conv, 4, sizes=(3, 9), shards=(12, 0))


def test_the_law_notices_a_wrong_gradient():
    with pytest.raises(AssertionError):
        assert_point_parallel(Centred(exact=False), 3)


def test_shards_must_be_all_points():
    message = r"shards is \(3, 4\), expected 2 numbers that sum to the 8 points"
    with pytest.raises(ValueError, match=message):
        assert_point_parallel(Centred(True), 3, sizes=(8,), shards=(3, 4))
    with pytest.raises(ValueError, match="expected 3 numbers"):
        assert_point_parallel(Centred(True), 3, 3, sizes=(8,), shards=(4, 4))
    with pytest.raises(ValueError, match="world_size is 0, expected a positive"):
        assert_point_parallel(Centred(True), 3, world_size=0)


def report(offset, name):
    total = torch.tensor(offset + dist.get_rank())
    dist.all_reduce(total)
    return {name: total, "rank": dist.get_rank(), "threads": torch.get_num_threads()}


def test_processes_return_in_the_order_of_their_ranks():
    results = run_processes(report, 3, 10, "total")
    assert [result["rank"] for result in results] == [0, 1, 2]
    assert all(result["total"] == 33 and result["threads"] == 1 for result in results)


def fail(how):
    if dist.get_rank() == 0:
        time.sleep(0.1 if how == "both" else 60)
    elif how == "exit":
        os._exit(3)
    raise KeyError(how)


def test_all_errors_are_reported():
    with pytest.raises(
        RuntimeError, match="process 0 failed:\n(.|\n)*KeyError: 'both'"
    ):
        run_processes(fail, 2, "both")
    with pytest.raises(
        RuntimeError, match="process 1 failed:\n(.|\n)*KeyError: 'both'"
    ):
        run_processes(fail, 2, "both")


def test_a_process_that_does_not_end_is_ended():
    start = time.monotonic()
    with pytest.raises(RuntimeError) as caught:
        run_processes(fail, 2, "exit", timeout=1)
    assert time.monotonic() - start < 20
    assert str(caught.value) == (
        "process 0 ended with exit code -9\nprocess 1 ended with exit code 3"
    )
