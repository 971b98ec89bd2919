import pytest
import torch

from torch_geometric_flare.metrics import relative_l2_of_derivatives


def naive(pred, target, height, width, h=1 / 85):
    """Loops over one graph, as the definition says."""

    def at(field, i, j):
        return field[i, j] if 0 <= i < height and 0 <= j < width else 0 * field[0, 0]

    pred, target = (f.clone().view(height, width, -1) for f in (pred, target))
    for i in range(height):
        for j in range(width):
            if i in (0, height - 1) or j in (0, width - 1):
                pred[i, j] = 0
    errors = []
    for di, dj in ((1, 0), (0, 1)):
        error = norm = 0.0
        for i in range(height):
            for j in range(width):
                found, true = (
                    (at(f, i + di, j + dj) - at(f, i - di, j - dj)) / (2 * h)
                    for f in (pred, target)
                )
                error = error + (found - true).square().sum()
                norm = norm + true.square().sum()
        errors.append(float((error / norm) ** 0.5))
    return errors


@pytest.mark.parametrize("channels", [1, 2])
def test_against_loops(channels):
    height, width, graphs = 5, 7, 3
    shape = (2, graphs * height * width, channels)
    pred, target = torch.randn(shape, dtype=torch.float64)
    batch = torch.arange(graphs).repeat_interleave(height * width)
    found = relative_l2_of_derivatives(pred, target, (height, width), batch)
    assert found.shape == (3, 2)
    for graph in range(graphs):
        rows = batch == graph
        expected = naive(pred[rows], target[rows], height, width)
        assert found[graph].tolist() == pytest.approx(expected, rel=1e-12)
    rows = batch == 0
    # A single channel may come without its dimension.
    for p, t in ((pred, target), (pred.squeeze(1), target.squeeze(1))):
        single = relative_l2_of_derivatives(p[rows], t[rows], (height, width))
        torch.testing.assert_close(single, found[:1], rtol=1e-12, atol=0)


def test_the_boundary_of_the_prediction_does_not_count_and_that_of_the_target_does():
    grid = (4, 5)
    pred, target = torch.randn(2, 4, 5, dtype=torch.float64)
    before = relative_l2_of_derivatives(pred.flatten(), target.flatten(), grid)
    other = pred.clone()
    other[0], other[:, -1] = 7.0, -7.0
    after = relative_l2_of_derivatives(other.flatten(), target.flatten(), grid)
    assert torch.equal(before, after)
    target[0, 0] += 1
    moved = relative_l2_of_derivatives(pred.flatten(), target.flatten(), grid)
    assert (moved != before).all()


def test_the_axes_are_those_of_the_grid():
    # Zero on the boundary; the prediction adds a ripple along the second axis.
    i, j = torch.meshgrid(torch.arange(9.0), torch.arange(9.0), indexing="ij")
    bump = torch.sin(torch.pi * i / 8) * torch.sin(torch.pi * j / 8)
    ripple = torch.sin(torch.pi * i / 8) * torch.sin(3 * torch.pi * j / 8)
    errors = relative_l2_of_derivatives(
        (bump + 0.1 * ripple).double().flatten(), bump.double().flatten(), (9, 9)
    )
    assert errors[0, 1] > 1.5 * errors[0, 0] > 0


def test_gradients():
    pred, target = torch.randn(2, 24, 2, dtype=torch.double)
    batch = torch.tensor([0] * 12 + [1] * 12)
    pred.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p: relative_l2_of_derivatives(p, target, (3, 4), batch), pred
    )


def test_what_does_not_fit():
    ones = torch.ones(12)
    with pytest.raises(ValueError, match=r"the graphs have \[12\] points, .* has 15"):
        relative_l2_of_derivatives(ones, ones, (3, 5))
    batch = torch.tensor([0] * 9 + [1] * 3)
    with pytest.raises(ValueError, match=r"the graphs have \[9, 3\] points"):
        relative_l2_of_derivatives(ones, ones, (3, 3), batch)
    with pytest.raises(ValueError, match=r"grid is \(2, 6\)"):
        relative_l2_of_derivatives(ones, ones, (2, 6))
    with pytest.raises(ValueError, match="pred has shape .* and target"):
        relative_l2_of_derivatives(ones, ones.unsqueeze(1), (3, 4))
    with pytest.raises(ValueError, match=r"target is zero .* graphs \[0\]"):
        relative_l2_of_derivatives(ones, 0 * ones, (3, 4))


def test_grids_of_a_batch_are_refused():
    field = torch.rand(32)
    batch = torch.arange(2).repeat_interleave(16)
    with pytest.raises(ValueError, match=r"data.grid\[0\]"):
        relative_l2_of_derivatives(field, field, [(4, 4), (4, 4)], batch)
