import json

import pytest
import torch

POINTS = ["--num-points=200", "--volume-points=100", "--step-points=50"]
FIELDS = ("pressure", "query_velocity", "query_pressure")


@pytest.fixture
def wake(load_here, monkeypatch):
    module = load_here("wake")

    class Coarse(module.NotchbackVolume):
        """Cars of few panels."""

        def __init__(self, num_points, volume_points):
            super().__init__(num_points, 16, 6, volume_points=volume_points)

    monkeypatch.setattr(module, "NotchbackVolume", Coarse)
    monkeypatch.setattr(module, "SPACING", 0.25)
    return module


def test_writes_what_it_promises(wake, tmp_path, capsys):
    results = wake.main(["--num-train=3", "--num-test=2", "--epochs=1", *POINTS])
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("wake-simulated-")
    assert json.loads((run / "metrics.json").read_text()) == results
    for name in ("surface", "plane_velocity", "plane_pressure"):
        assert (run / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert (run / "last.ckpt").exists()
    assert results["data"] == "simulated"
    output = capsys.readouterr().out
    for name in FIELDS:
        assert set(results[name]) == set(wake.KINDS)
        assert f"relative L2 error of {name}: surrogate" in output


def test_the_flow_over_a_car_is_that_of_its_sample(wake):
    """A neighbour that is the car itself has no error, but that of single precision."""
    simulator = wake.NotchbackVolume(200, volume_points=100)
    splits = wake.load_simulated(simulator, wake.Selection(), num_train=2, num_test=1)
    same = wake.replace(splits, test=splits.train)
    for error in wake.nearest_flow(simulator, same).values():
        assert error.max() < 1e-4
    for error in wake.nearest_flow(simulator, splits).values():
        assert error.min() > 0.01


@pytest.mark.slow
def test_learns(wake):
    torch.manual_seed(0)
    points = ["--num-points=1000", "--volume-points=1000", "--step-points=500"]
    results = wake.main(["--num-train=30", "--num-test=5", "--epochs=40", *points])
    for name in FIELDS:
        errors = results[name]
        assert errors["surrogate"] < 0.6 * errors["training mean"]
        assert errors["surrogate"] < errors["nearest training car"]
