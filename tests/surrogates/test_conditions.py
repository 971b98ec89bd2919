"""Conditions `u` of whole samples: their names, units and normaliser."""

import pytest
import pyvista as pv
import torch
from torch_geometric.data import Batch, Data

from torch_geometric_flare import FLARE
from torch_geometric_flare.fields import Field
from torch_geometric_flare.mesh_io import find_conditions
from torch_geometric_flare.nn import MeshGraphNet
from torch_geometric_flare.surrogates import (
    Surrogate,
    load_surrogate,
    save_surrogate,
)
from torch_geometric_flare.surrogates.description import describe_surrogate
from torch_geometric_flare.training import SurrogateModule
from torch_geometric_flare.transforms import Normalizer

SPEED, ANGLE = Field("speed", 1, "m/s"), Field("angle", 2, "°")


def network(channels=3, in_channels=3):
    torch.manual_seed(0)
    model = FLARE(in_channels, 8, 1, 2, 2, 5, condition_channels=channels)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("modulation"):
                parameter.normal_(std=0.5)
    return model


def of(kind=Surrogate, model=None, **arguments):
    return kind(
        network() if model is None else model,
        Normalizer.identity(1),
        Normalizer.from_bounds([-1.0] * 3, [1.0] * 3),
        **{
            "fields": (Field("pressure", 1, "Pa"),),
            "conditions": (SPEED, ANGLE),
            "condition_normalizer": Normalizer([40.0, 2.0, 3.0], [10.0, 4.0, 5.0]),
            **arguments,
        },
    )


def sample(points=20, speed=55.0):
    return Data(pos=torch.rand(points, 3), u=torch.tensor([[speed, 1.0, -2.0]]))


def test_conditions_are_normalised_and_named():
    surrogate, data = of(), sample()
    x = surrogate.coordinate_normalizer.encode(data.pos)
    u = torch.tensor([[1.5, -0.25, -1.0]])
    torch.testing.assert_close(surrogate(data), surrogate.model(x, u=u))
    plain = of(conditions=(), condition_normalizer=None)
    torch.testing.assert_close(plain(data), plain.model(x, u=data.u))


def test_samples_of_a_batch_have_their_own():
    surrogate = of()
    samples = [sample(20), sample(7, 30.0), sample(12, 80.0)]
    alone = torch.cat([surrogate(data) for data in samples])
    torch.testing.assert_close(surrogate(Batch.from_data_list(samples)), alone)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_round_trip(kind, tmp_path):
    surrogate, data = of(), sample()
    if kind == "file":
        save_surrogate(surrogate, tmp_path / "a.ckpt")
        loaded = load_surrogate(tmp_path / "a.ckpt")
    else:
        pytest.importorskip("safetensors")
        surrogate.save_pretrained(tmp_path / "a")
        loaded = Surrogate.from_pretrained(tmp_path / "a")
        card = (tmp_path / "a" / "README.md").read_text(encoding="utf-8")
        assert "| speed | 1 | m/s |" in card
    assert loaded.conditions == (SPEED, ANGLE)
    assert describe_surrogate(loaded) == describe_surrogate(surrogate)
    assert torch.equal(loaded.predict(data), surrogate.predict(data))


def test_a_file_from_before_conditions_opens(tmp_path):
    path = tmp_path / "old.ckpt"
    surrogate = of(model=network(0), conditions=(), condition_normalizer=None)
    save_surrogate(surrogate, path)
    content = torch.load(path, weights_only=True)
    del content["surrogate"]["conditions"]
    del content["surrogate"]["arguments"]["condition_channels"]
    torch.save(content, path)
    loaded, data = load_surrogate(path), Data(pos=torch.rand(9, 3))
    assert loaded.conditions == ()
    assert torch.equal(loaded.predict(data), surrogate.predict(data))


def test_a_module_hands_them_on():
    module, data = of(SurrogateModule), sample()
    assert module.surrogate.conditions == (SPEED, ANGLE)
    torch.testing.assert_close(module(data), of()(data))


def test_missing_and_wrong_conditions():
    surrogate, data = of(), sample()
    del data.u
    with pytest.raises(ValueError, match=r"u.*speed \(m/s\), angle \(°\).*\[1, 3\]"):
        surrogate(data)
    data.u = torch.rand(1, 2)
    with pytest.raises(ValueError, match=r"u .*\(1, 2\).*speed \(m/s\)"):
        surrogate(data)
    data.u = torch.rand(2, 3)
    with pytest.raises(ValueError, match=r"u .*\(2, 3\)"):
        surrogate(data)
    without = of(model=network(0), conditions=(), condition_normalizer=None)
    with pytest.raises(ValueError, match=r"u .*condition_channels=3"):
        without(sample())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": network(2)}, "condition_channels=3"),
        ({"model": MeshGraphNet(3, 8, 1, 2, 3)}, "MeshGraphNet"),
        ({"condition_normalizer": Normalizer.identity(2)}, "condition_normalizer"),
        ({"conditions": ()}, "condition_normalizer"),
        ({"features": (SPEED,)}, "'speed'"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        of(**arguments)


def ball(**field_data):
    mesh = pv.Sphere(radius=0.5, theta_resolution=6, phi_resolution=6)
    for name, values in field_data.items():
        mesh.field_data[name] = values
    return mesh


def test_predictions_on_meshes():
    surrogate, constants = of(), {"speed": [40], "angle": [1.0, -2.0]}
    mesh = ball()
    pos = torch.as_tensor(mesh.points)
    u = torch.tensor([[40.0, 1.0, -2.0]])
    expected = surrogate.predict(Data(pos=pos, u=u)).flatten()

    def pressure(mesh, **arguments):
        found = surrogate.predict_mesh(mesh, **arguments).point_data["pressure"]
        return torch.as_tensor(found)

    torch.testing.assert_close(pressure(mesh, constants=constants), expected)
    other = ball(speed=[55.0], angle=[1.0, -2.0])
    torch.testing.assert_close(pressure(other, constants={"speed": [40.0]}), expected)
    assert not torch.allclose(pressure(other), expected)
    renamed = ball(velocity=[40.0], angle=[1.0, -2.0])
    arrays = [Field("speed", source="velocity")]
    torch.testing.assert_close(pressure(renamed, arrays=arrays), expected)


def test_a_condition_far_from_the_training_is_warned_about():
    constants = {"speed": [400.0], "angle": [1.0, -2.0]}
    with pytest.warns(UserWarning, match=r"speed .*400 m/s"):
        of().predict_mesh(ball(), constants=constants)


@pytest.mark.parametrize(
    ("field_data", "constants", "message"),
    [
        ({}, {"speed": [40.0]}, r"angle \(°\).*angle=VALUE"),
        ({"angle": [1.0]}, {"speed": [40.0]}, "angle.* 2 .*1"),
        ({"angle": [1.0, 2.0]}, {"speed": [40.0, 1.0]}, r"speed \(m/s\).* 2 "),
        ({"angle": [1.0, 2.0]}, {"speed": [float("nan")]}, r"speed \(m/s\).*finite"),
        ({"angle": ["a", "b"]}, {"speed": [40.0]}, "angle"),
        ({"angle": [1.0, 2.0]}, {"sped": [40.0]}, r"'sped'.*speed \(m/s\)"),
    ],
)
def test_errors_of_meshes(field_data, constants, message):
    mesh = ball(**field_data)
    with pytest.raises(ValueError, match=message):
        of().predict_mesh(mesh, constants=constants)
    with pytest.raises(ValueError, match=message):
        find_conditions(mesh, (SPEED, ANGLE), constants)
