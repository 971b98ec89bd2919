import pytest
import torch

from torch_geometric_flare.transforms import quadrature_weights


def lattice(*sides):
    ticks = [torch.arange(side, dtype=torch.float64) for side in sides]
    return torch.stack(torch.meshgrid(*ticks, indexing="ij"), -1).flatten(0, -2)


def test_a_regular_grid_gives_the_trapezoidal_rule():
    pos = lattice(3, 4) * torch.tensor([0.5, 2.0])
    weights = quadrature_weights(pos, grid=(3, 4)).view(3, 4)
    expected = [[0.25, 0.5, 0.5, 0.25], [0.5, 1, 1, 0.5], [0.25, 0.5, 0.5, 0.25]]
    torch.testing.assert_close(weights, torch.tensor(expected).double())


def test_a_sheared_grid_in_space_keeps_its_area():
    turn = torch.tensor([[1.0, 2.0], [0.0, 3.0], [4.0, 0.0]]).double()
    pos = lattice(5, 6) @ turn.T
    area = torch.linalg.cross(*turn.T).norm() * 4 * 5
    torch.testing.assert_close(quadrature_weights(pos, grid=(5, 6)).sum(), area)


def test_triangles():
    pos = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 3.0], [2.0, 3.0], [9.0, 9.0]])
    cells = torch.tensor([[0, 1, 2], [2, 1, 3]])
    assert quadrature_weights(pos, cells=cells).tolist() == [1, 2, 2, 1, 0]
    space = torch.nn.functional.pad(pos, (0, 1))
    assert quadrature_weights(space, cells=cells).tolist() == [1, 2, 2, 1, 0]


def test_hexahedra():
    corners = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    corners += [[x, y, 1] for x, y, _ in corners]
    turn = torch.tensor([[2.0, 0.0, 0.0], [1.0, 3.0, 0.0], [0.0, 1.0, 4.0]])
    pos = torch.tensor(corners, dtype=torch.float32) @ turn
    weights = quadrature_weights(pos, cells=torch.arange(8).view(1, 8))
    torch.testing.assert_close(weights, torch.full((8,), 3.0))
    # Two cells on top of each other: the corners between them count twice.
    top = pos[4:] + turn[2]
    cells = torch.tensor([[*range(8)], [*range(4, 12)]])
    weights = quadrature_weights(torch.cat([pos, top]), cells=cells)
    expected = torch.tensor([3.0] * 4 + [6.0] * 4 + [3.0] * 4)
    torch.testing.assert_close(weights, expected)


@pytest.mark.parametrize("sides", [(7,), (4, 5), (3, 4, 3)])
def test_points_alone_on_a_regular_grid_count_alike(sides):
    weights = quadrature_weights(lattice(*sides))
    torch.testing.assert_close(weights, torch.ones_like(weights))


@pytest.mark.parametrize(("surface", "ratio"), [(False, 8), (True, 4)])
def test_points_alone_count_by_their_spacing(surface, ratio):
    pos = torch.cat([lattice(4, 4, 4), lattice(4, 4, 4) * 2 + 100])
    weights = quadrature_weights(pos, surface=surface)
    fine, coarse = weights[:64], weights[64:]
    torch.testing.assert_close(coarse, ratio * fine)


def test_tiny_lengths_do_not_underflow():
    weights = quadrature_weights((lattice(3, 3, 3) * 1e-20).float())
    assert weights.equal(torch.ones(27))


def test_what_counts_as_points_alone():
    pos = lattice(5, 2)
    plain = quadrature_weights(pos)
    assert quadrature_weights(pos, grid=(1, 10)).equal(plain)
    assert quadrature_weights(pos, cells=torch.zeros(2, 4).long()).equal(plain)


def test_few_points():
    assert quadrature_weights(torch.rand(0, 3)).shape == (0,)
    assert quadrature_weights(torch.rand(1, 3)).tolist() == [1]
    assert quadrature_weights(torch.rand(3, 3)).tolist() == [1, 1, 1]
    assert quadrature_weights(torch.zeros(5, 3)).tolist() == [1] * 5


def test_areas_are_taken_as_they_are():
    area = torch.rand(5, 1, dtype=torch.float64)
    weights = quadrature_weights(torch.rand(5, 2), area)
    assert weights.equal(area.flatten().float())
    with pytest.raises(ValueError, match=r"area has shape \(4,\), expected \(5,\)"):
        quadrature_weights(torch.rand(5, 2), torch.ones(4))
    with pytest.raises(ValueError, match="area must be finite and nonnegative"):
        quadrature_weights(torch.rand(1, 2), torch.tensor([torch.nan]))


@pytest.mark.parametrize("point", [-1, 4])
def test_cells_of_points_that_do_not_exist(point):
    with pytest.raises(ValueError, match="cells refers to points from .* there are 4"):
        quadrature_weights(torch.rand(4, 2), cells=torch.tensor([[0, 1, point]]))
