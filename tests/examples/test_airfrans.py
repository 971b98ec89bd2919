"""`examples/airfrans.py` on files in the official format, of a made-up flow."""

import json
import math

import pytest
import torch

from tests.examples.loading import load_example
from torch_geometric_flare.surrogates import load_surrogate

NAMES = [f"airFoil2D_SST_{number}" for number in range(5)]
FIELDS = ("pressure", "query_velocity", "query_pressure", "query_turbulent_viscosity")


def airfoil(number):
    """An ellipse and points around it, with a formula for a flow."""
    draw = torch.Generator().manual_seed(number)
    angle = torch.linspace(0, 2 * math.pi, 41)[:-1]
    half = torch.tensor([0.5, 0.05 + 0.01 * number])
    circle = torch.stack([angle.cos(), angle.sin()], dim=1)
    distance = 0.01 + torch.rand(160, 1, generator=draw)
    around = circle.repeat(4, 1) * (half + distance)
    normal = torch.nn.functional.normalize(circle / half, dim=1)
    pos = torch.cat([half * circle, around]) + torch.tensor([0.5, 0.0])
    wall = torch.cat([torch.zeros(40, 1), distance])
    speed = 40.0 + 5.0 * number
    inlet = torch.tensor([speed, 2.0 - number]).expand(200, 2)
    fade = 1 - (-wall / 0.3).exp()
    pressure = -0.5 * speed**2 * (1 - fade) * pos[:, 1:].sign()
    return {
        "pos": pos,
        "x": torch.cat([inlet, wall, torch.cat([normal, torch.zeros(160, 2)])], 1),
        "y": torch.cat([fade * inlet, pressure, 1e-3 * fade], dim=1),
        "surf": wall[:, 0] == 0,
    }


@pytest.fixture
def example(monkeypatch, tmp_path):
    raw = tmp_path / "official" / "raw"
    raw.mkdir(parents=True)
    torch.save([airfoil(number) for number in range(5)], raw / "AirfRANS.pt")
    manifest = {"full_train": NAMES[:3], "full_test": NAMES[3:]}
    manifest["scarce_train"] = NAMES[:2]
    (raw / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.chdir(tmp_path)
    return load_example("airfrans")


def test_one_command(example, tmp_path, capsys):
    steps = ["--epochs=40", "--step-points=30", "--step-queries=150"]
    results = example.main(["--data=official", "--root=official", *steps])
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / "metrics.json").read_text()) == results
    assert (run / "pressure.png").read_bytes().startswith(b"\x89PNG")
    output = capsys.readouterr().out
    for name in FIELDS:
        assert f"relative L2 error of {name}: surrogate" in output
    for name in FIELDS[:3]:
        errors = results[name]
        assert errors["surrogate"] < 0.5 * errors["training mean"]

    surrogate = load_surrogate(run / "last.ckpt")
    assert [str(c) for c in surrogate.conditions] == ["inlet_velocity (m/s)"]
    sample = example.AirfRANS(
        "official", split="test", inlet="condition", source="surface"
    )[0]
    _, expected = surrogate.predict(sample)
    state = surrogate.encode(sample)
    torch.testing.assert_close(surrogate.predict_at(state, sample), expected)
    sample.u = 2 * sample.u
    assert (surrogate.predict(sample)[1] - expected).abs().max() > 1e-2


def test_fewer_airfoils(example):
    args = ["--root=official", "--task=scarce", "--num-train=2", "--num-test=1"]
    splits = example.load(example.parse_args(args))
    assert (len(splits.train), len(splits.test)) == (2, 1)
    sample = splits.train[0]
    assert sample.pos.shape == (40, 2) and sample.query_pos.shape == (200, 2)
    with pytest.raises(SystemExit):
        example.main(["--root=official", "--num-train=4"])
