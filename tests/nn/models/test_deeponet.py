import pytest
import torch

from torch_geometric_flare.nn import DeepONet
from torch_geometric_flare.surrogates import Surrogate, load_surrogate, save_surrogate
from torch_geometric_flare.transforms import Normalizer


def small(**options):
    arguments = {"num_points": 20, "num_sensors": 6, "num_layers": 2}
    return DeepONet(3, 8, 2, **{**arguments, **options})


def test_sum_of_products_of_branch_and_trunk():
    model = small()
    with torch.no_grad():
        model.bias.copy_(torch.tensor([0.5, -2.0]))
    x = torch.randn(20, 3)
    sensors = [0, 3, 6, 10, 13, 16]
    assert model.sensors.tolist() == sensors
    b = torch.cat([x[s] for s in sensors])
    for layer in model.branch.lins[:-1]:
        b = torch.nn.functional.gelu(layer(b), approximate="tanh")
    b = model.branch.lins[-1](b)
    y = model(x)
    for i in (0, 7, 19):
        t = x[i, :2]
        for layer in model.trunk.lins:  # the activation follows the last one too
            t = torch.nn.functional.gelu(layer(t), approximate="tanh")
        for c, bias in enumerate((0.5, -2.0)):
            expected = sum(b[8 * c + k] * t[k] for k in range(8)) + bias
            torch.testing.assert_close(y[i, c], expected)


def test_only_sensors_and_coordinates_are_seen():
    model, x = small(), torch.randn(20, 3)
    y = model(x)
    other = x.clone()
    other[5, 2] += 1  # a feature between the sensors
    assert torch.equal(model(other), y)
    other[5, 0] += 1  # a coordinate there
    assert (model(other) != y).any(1).nonzero().flatten().tolist() == [5]
    x[6, 2] += 1  # a feature at a sensor
    assert (model(x) != y).any(1).all()


def test_by_default_every_point_is_a_sensor():
    model = DeepONet(2, 8, 1, num_points=5)
    assert model.sensors.tolist() == [0, 1, 2, 3, 4]
    assert model.branch.channel_list[0] == 10


def test_it_learns_an_operator():
    # From a line at 9 points to its integral: the paper's first example in small.
    torch.manual_seed(0)
    model = DeepONet(2, 32, 1, num_points=9, pos_channels=1, num_layers=1)
    s = torch.linspace(0, 1, 9).expand(64, -1)
    a, b = torch.randn(2, 64, 1)
    x = torch.stack([s, a + b * s], -1)
    y = (a * s + b * s**2 / 2).unsqueeze(-1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    batch = torch.arange(48).repeat_interleave(9)
    for _ in range(300):
        optimizer.zero_grad()
        found = model(x[:48].flatten(0, 1), batch)
        (found - y[:48].flatten(0, 1)).square().mean().backward()
        optimizer.step()
    unseen = model(x[48:].flatten(0, 1), batch[: 16 * 9]).view(16, 9, 1)
    assert (unseen - y[48:]).norm() < 0.1 * y[48:].norm()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_points": 0}, "num_points is 0"),
        ({"num_sensors": 0}, "num_sensors is 0"),
        ({"num_sensors": 21}, "num_sensors is 21, but a graph has num_points=20"),
        ({"pos_channels": 4}, "pos_channels is 4, but in_channels is 3"),
        ({"num_layers": 0}, "num_layers is 0"),
    ],
)
def test_sizes_that_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_another_width_is_refused():
    with pytest.raises(ValueError, match=r"x has shape \(20, 2\), expected \[N, 3\]"):
        small()(torch.randn(20, 2))


def test_repr():
    assert str(small()) == (
        "DeepONet(3, 8, 2, num_points=20, num_sensors=6, num_layers=2)"
    )


def test_from_a_file(tmp_path):
    surrogate = Surrogate(small(), Normalizer.identity(2))
    save_surrogate(surrogate, tmp_path / "model.pt")
    x = torch.randn(20, 3)
    loaded = load_surrogate(tmp_path / "model.pt")
    assert torch.equal(loaded.model(x), surrogate.model(x))
