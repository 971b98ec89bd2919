import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_flare.simulation import AirfoilFlow, AirfoilShape
from torch_geometric_flare.training.sampling import SeededDataset
from torch_geometric_flare.transforms import RandomMirror


def test_mirror_image():
    pos = torch.tensor([[1.0, 2.0], [3.0, -4.0]])
    x = torch.cat([pos, torch.tensor([[5.0], [6.0]])], dim=1)
    data = Data(pos=pos, x=x, y=torch.tensor([[7.0], [8.0]]))
    image = RandomMirror(1, p=1.0)(data)
    assert image.pos.tolist() == [[1.0, -2.0], [3.0, 4.0]]
    assert image.x.tolist() == [[1.0, -2.0, 5.0], [3.0, 4.0, 6.0]]
    assert image.y.tolist() == [[7.0], [8.0]]
    assert data.pos is pos and data.x is x and data.y.tolist() == [[7.0], [8.0]]


def test_plane_at_another_place():
    pos = torch.tensor([[1.0, 2.0], [3.0, -4.0]])
    data = Data(pos=pos, x=pos / 10, edge_index=torch.tensor([[0], [1]]))
    image = RandomMirror(0, 1.0, position=5.0, x_position=0.5)(data)
    assert image.pos.tolist() == [[9.0, 2.0], [7.0, -4.0]]
    torch.testing.assert_close(image.x, image.pos / 10)
    assert torch.equal(image.edge_index, data.edge_index)
    without = RandomMirror(0, 1.0, position=5.0)(Data(pos=pos, x=pos))
    assert torch.equal(without.x, without.pos)


def test_walk_around_the_body_keeps_its_direction():
    # From below the wake around the nose to above it, in three columns of points.
    below, above = [[1.0, -1.0], [0.0, -2.0]], [[0.0, 3.0], [1.0, 1.0]]
    pos = torch.tensor(below + above).repeat_interleave(3, 0)
    y = torch.arange(12.0).unsqueeze(1)
    image = RandomMirror(1, p=1.0)(Data(pos=pos, x=pos, y=y, grid=(4, 3)))
    assert image.grid == (4, 3)
    assert image.pos[::3].tolist() == [[1, -1], [0, -3], [0, 2], [1, 1]]
    assert image.y.flatten().tolist() == [9, 10, 11, 6, 7, 8, 3, 4, 5, 0, 1, 2]
    torch.testing.assert_close(image.x, image.pos)


def test_twice_is_the_sample_and_half_are_images():
    pos = torch.randn(6, 3)
    data = Data(pos=pos, x=pos, y=torch.randn(6, 1), grid=(2, 3))
    twice = RandomMirror(2, p=1.0)(RandomMirror(2, p=1.0)(data))
    for name in ("pos", "x", "y"):
        torch.testing.assert_close(twice[name], data[name])
    torch.manual_seed(0)
    images = sum(not torch.equal(RandomMirror(2)(data).y, data.y) for _ in range(400))
    assert 150 < images < 250


@pytest.mark.slow
def test_flow_around_the_mirror_image_is_the_mirror_image():
    lower, upper = (0.02, -0.01, 0.03, 0.01), (-0.01, 0.02, 0.0, 0.03)
    shapes = (
        AirfoilShape((lower, upper)),
        AirfoilShape((tuple(-d for d in upper), tuple(-d for d in lower))),
    )
    flow, mirrored = (AirfoilFlow().solve(shape) for shape in shapes)
    image = RandomMirror(1, p=1.0)(_as_sample(flow))
    expected = _as_sample(mirrored)
    torch.testing.assert_close(image.pos, expected.pos, rtol=0, atol=1e-5)
    # The iteration sweeps in one direction, and ends before rounding errors do.
    difference = (image.y - expected.y).norm() / expected.y.norm()
    assert difference < 0.01 < (_as_sample(flow).y - expected.y).norm()


def _as_sample(flow):
    pos = torch.from_numpy(flow.nodes).float().flatten(0, 1)
    y = torch.from_numpy(flow.mach_number).float().reshape(-1, 1)
    return Data(pos=pos, y=y, grid=flow.mach_number.shape)


def test_in_training_the_grid_stays():
    pos = torch.randn(6, 2)
    data = Data(pos=pos, x=pos, y=pos[:, :1], grid=(2, 3))
    samples = SeededDataset([data], seed=0, transform=RandomMirror(1, p=1.0))
    image = samples[0, 0]
    assert image.grid == (2, 3) and torch.equal(image.y[:3], data.y[3:])


def test_errors():
    pos = torch.randn(6, 2)
    with pytest.raises(ValueError, match="^p must be between 0 and 1, got 2"):
        RandomMirror(1, p=2)
    with pytest.raises(ValueError, match="^axis is 2, but pos has shape"):
        RandomMirror(2)(Data(pos=pos))
    with pytest.raises(ValueError, match="^axis is 0, but pos has shape None"):
        RandomMirror(0)(Data(x=pos))
    with pytest.raises(ValueError, match=r"grid=\(2, 4\) and 6 points"):
        RandomMirror(0)(Data(pos=pos, grid=(2, 4)))
    edges = torch.zeros(2, 1, dtype=torch.long)
    with pytest.raises(ValueError, match="`edge_index`"):
        RandomMirror(0)(Data(pos=pos, grid=(2, 3), edge_index=edges))


def test_odd_conditions_change_their_sign():
    u = torch.tensor([[0.7, 2.0, -1.0]])
    data = Data(pos=torch.rand(5, 2), u=u)
    mirror = RandomMirror(1, p=1.0, odd=(1, 2))
    assert mirror(data).u.tolist() == [[pytest.approx(0.7), -2.0, 1.0]]
    assert torch.equal(data.u, torch.tensor([[0.7, 2.0, -1.0]]))
    assert RandomMirror(1, p=0.0, odd=(1,))(data).u is u
    assert "u" not in mirror(Data(pos=torch.rand(5, 2)))
    assert repr(mirror) == "RandomMirror(1, p=1.0, odd=[1, 2])"
