import pytest
import torch

from torch_geometric_flare.metrics import (
    RelativeL2,
    area_weighted_relative_l2,
    relative_l2,
)

SIZES = [63, 1, 500]


def fields(dtype=torch.float64):
    n = sum(SIZES)
    batch = torch.repeat_interleave(torch.tensor(SIZES))
    return *torch.randn(2, n, 2, dtype=dtype), batch, torch.rand(n, dtype=dtype)


def close(found, expected):
    torch.testing.assert_close(found, expected.double(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("size", [1, 7, 100, 564])
@pytest.mark.parametrize("weighted", [False, True])
def test_cut_anywhere_it_is_the_error_of_the_whole(size, weighted):
    pred, target, batch, area = fields()
    error = RelativeL2(3)
    for rows in torch.arange(len(pred)).split(size):
        more = area[rows] if weighted else None
        error.update(pred[rows], target[rows], batch[rows], more)
    if weighted:
        close(error.compute(), area_weighted_relative_l2(pred, target, area, batch))
    else:
        close(error.compute(), relative_l2(pred, target, batch))


def test_it_is_no_average_of_the_errors_of_chunks():
    # Errors 0 and 1 of two halves; the second one counts little.
    pred, target = torch.tensor([10.0, 0.0]), torch.tensor([10.0, 1.0])
    error = RelativeL2()
    error.update(pred[:1], target[:1])
    error.update(pred[1:], target[1:])
    assert error.compute().tolist() == pytest.approx([101**-0.5])


def test_small_errors_survive_many_chunks_in_single_precision():
    # Sums in single precision would stop at 2^24.
    error = RelativeL2()
    for value in (2.0**12, 1.0, 1.0):
        error.update(torch.zeros(1), torch.tensor([value]))
    assert error._sums.tolist() == [[2.0**24 + 2] * 2]
    assert error.compute().dtype == torch.float64


def test_merged_parts_are_the_whole_and_stay_as_they_were():
    pred, target, batch, _ = fields()
    parts = []
    for rows in torch.arange(len(pred)).chunk(3):
        parts.append(RelativeL2(3))
        parts[-1].update(pred[rows], target[rows], batch[rows])
    whole = RelativeL2(3)
    for part in parts:
        whole.merge(part)
    whole.merge(RelativeL2(3))
    close(whole.compute(), relative_l2(pred, target, batch))
    again = RelativeL2(3)
    for part in parts:
        again.merge(part)
    close(again.compute(), relative_l2(pred, target, batch))


def test_it_keeps_no_graph():
    pred = torch.ones(3, requires_grad=True)
    error = RelativeL2()
    error.update(pred, torch.full((3,), 2.0))
    assert not error.compute().requires_grad


def test_what_is_refused():
    ones = torch.ones(2)
    with pytest.raises(ValueError, match="num_graphs must be at least 1, got 0"):
        RelativeL2(0)
    with pytest.raises(ValueError, match="other has 2 graphs, expected 1"):
        RelativeL2().merge(RelativeL2(2))
    with pytest.raises(ValueError, match="batch is None"):
        RelativeL2(2).update(ones, ones)
    with pytest.raises(ValueError, match=r"shape \(2,\) and target \(2, 1\)"):
        RelativeL2().update(ones, ones.unsqueeze(1))
    error = RelativeL2(2)
    with pytest.raises(ValueError, match=r"graphs \[0, 1\]"):
        error.compute()
    error.update(ones, ones, torch.tensor([0, 0]))
    with pytest.raises(ValueError, match=r"graphs \[1\]"):
        error.compute()
    assert repr(error) == "RelativeL2(num_graphs=2)"


def test_areas_in_all_chunks_or_in_none():
    field, area = torch.rand(4, 1), torch.rand(4)
    plain, weighted = RelativeL2(), RelativeL2()
    plain.update(field, field + 1)
    weighted.update(field, field + 1, area=area)
    before = weighted.compute()
    with pytest.raises(ValueError, match="some chunks have areas and others"):
        plain.update(field, field + 1, area=area)
    with pytest.raises(ValueError, match="some chunks have areas and others"):
        weighted.merge(plain)
    assert torch.equal(weighted.compute(), before)
