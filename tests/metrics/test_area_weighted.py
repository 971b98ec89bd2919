import pytest
import torch
import torch.distributed as dist

from torch_geometric_flare.metrics import area_weighted_relative_l2, relative_l2
from torch_geometric_flare.testing import run_processes

SIZES = [63, 1, 500]


def fields():
    n = sum(SIZES)
    area = torch.rand(n, dtype=torch.float64)
    batch = torch.repeat_interleave(torch.tensor(SIZES))
    return *torch.randn(2, n, 3, dtype=torch.float64), area, batch


@pytest.mark.segment
def test_is_the_ratio_of_weighted_norms():
    pred, target, area, batch = fields()
    expected = []
    for p, t, a in zip(*(x.split(SIZES) for x in (pred, target, area)), strict=True):
        error = sum(a[i] * (p[i] - t[i]) @ (p[i] - t[i]) for i in range(len(a)))
        norm = sum(a[i] * t[i] @ t[i] for i in range(len(a)))
        expected.append(float((error / norm).sqrt()))
    for weight in (area, area.unsqueeze(1), 1e6 * area):
        error = area_weighted_relative_l2(pred, target, weight, batch, 3)
        assert error.tolist() == pytest.approx(expected, rel=1e-12)
    single = area_weighted_relative_l2(pred[:63], target[:63], area[:63])
    assert single.tolist() == pytest.approx(expected[:1], rel=1e-12)


def test_equal_areas_weigh_nothing_and_a_split_cell_changes_nothing():
    pred, target, area, batch = fields()
    same = area_weighted_relative_l2(pred, target, torch.full_like(area, 3.0), batch)
    torch.testing.assert_close(
        same, relative_l2(pred, target, batch), rtol=1e-12, atol=0
    )
    # A cell cut in two: the plain error moves, this one does not.
    cut = [torch.cat([values, values[-1:]]) for values in (pred, target, area, batch)]
    cut[2][-2:] /= 2
    torch.testing.assert_close(
        area_weighted_relative_l2(*cut),
        area_weighted_relative_l2(pred, target, area, batch),
        rtol=1e-12,
        atol=0,
    )
    assert relative_l2(cut[0], cut[1], cut[3])[2] != relative_l2(pred, target, batch)[2]


@pytest.mark.segment
def test_gradients():
    pred, target = torch.randn(2, 7, 2, dtype=torch.double)
    area = torch.rand(7, dtype=torch.double)
    batch = torch.tensor([0, 0, 0, 1, 2, 2, 2])
    inputs = (pred.requires_grad_(), target, area.requires_grad_(), batch)
    assert torch.autograd.gradcheck(area_weighted_relative_l2, inputs)
    assert torch.autograd.gradgradcheck(area_weighted_relative_l2, inputs)


def of_a_part(pred, target, area, batch):
    group = dist.group.WORLD
    rows = slice(0, 100) if group.rank() == 0 else slice(100, None)
    parts = (pred[rows], target[rows], area[rows], batch[rows])
    return area_weighted_relative_l2(*parts, group=group)


def test_over_processes_it_is_the_error_of_the_whole():
    arguments = fields()
    whole = area_weighted_relative_l2(*arguments)
    for found in run_processes(of_a_part, 2, *arguments):
        torch.testing.assert_close(found, whole, rtol=1e-12, atol=0)


def test_dtype_and_what_is_refused():
    ones = torch.ones(4, 1)
    assert area_weighted_relative_l2(ones, ones, ones).dtype == torch.float32
    with pytest.raises(ValueError, match=r"area has shape \(3,\), expected \(4,\)"):
        area_weighted_relative_l2(ones, ones, ones[:3, 0])
    with pytest.raises(ValueError, match=r"target is zero .* graphs \[0\]"):
        area_weighted_relative_l2(ones, ones, 0 * ones)
