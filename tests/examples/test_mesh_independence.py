import json

import numpy as np
import pytest
import pyvista as pv
import torch

from tests.examples.loading import EXAMPLES, load_example
from torch_geometric_flare.fields import Field
from torch_geometric_flare.nn import FLARE
from torch_geometric_flare.simulation import Notchback
from torch_geometric_flare.surrogates import Surrogate, save_surrogate
from torch_geometric_flare.transforms import Normalizer


@pytest.mark.filterwarnings("ignore:predicting at the points")
def test_six_meshes_with_weights_and_without(checkpoint):
    rows = load_example("mesh_independence").main([str(checkpoint)])
    assert (
        json.loads(checkpoint.with_name("mesh_independence.json").read_text()) == rows
    )
    assert checkpoint.with_name("mesh_independence.png").exists()
    assert len({row["mesh"] for row in rows}) == 7
    truth, *others = rows
    assert truth["error"] == 0 and abs(truth["side"]) < 1e-3
    assert 0.1 < truth["drag"] < 0.3
    drags = {
        weight: [row["drag"] for row in others if row["weights"] == weight]
        for weight in ("none", "area")
    }
    spread = {weight: max(d) - min(d) for weight, d in drags.items()}
    assert spread["area"] < spread["none"]


@pytest.mark.slow
def test_cars_of_other_kinds(checkpoint, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(EXAMPLES / "benchmarks"))
    module = load_example("benchmarks/guard")
    cars = Notchback(num_points=400, panels_along=16, panels_around=6)
    monkeypatch.setattr(module, "CARS", cars)
    options = f"--root {tmp_path} --num-train 5 --held-out 9 --cars 1"
    module.main([str(checkpoint), *options.split(), "--output", str(tmp_path / "g")])
    rows = json.loads((tmp_path / "g.json").read_text())
    told = {row["kind"]: row for row in rows}
    assert set(told) == set(module.KINDS)
    assert told["in millimeters"]["box"] == told["in millimeters"]["guard"] == 1
    assert told["fastbacks"]["mean_error"] > 0
    assert (tmp_path / "g.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_media_of_other_kinds(monkeypatch, tmp_path, capsys):
    surrogate = Surrogate(
        FLARE(3, 8, 1, num_layers=1, heads=2, num_latents=4),
        Normalizer([0.0], [1.0]),
        Normalizer.from_bounds([0.0, 0.0], [1.0, 1.0]),
        features=[Field("permeability")],
    )
    save_surrogate(surrogate, tmp_path / "last.ckpt")
    monkeypatch.syspath_prepend(str(EXAMPLES / "benchmarks"))
    module = load_example("benchmarks/guard_darcy")
    options = f"--root {tmp_path} --num-train 5 --num-points 81 --held-out 9 --media 2"
    module.main([str(tmp_path / "last.ckpt"), *options.split()])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row["kind"] for row in rows] == list(module.KINDS)
    assert rows[-1]["statistics"] == 1  # permeability 24
    assert all(0 <= row["guard"] <= 1 and row["mean_error"] > 0 for row in rows)
    equal = module.draw({}, 9, "a", 0)
    same = module.DarcyFlow(resolution=9, solve_resolution=17)
    expected = same.sample(module.sample_rng(4, "a", 0))["pressure"]
    assert torch.equal(equal.y, torch.from_numpy(expected).float())


@pytest.mark.slow
def test_airfoils_at_another_mach_number(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(EXAMPLES / "benchmarks"))
    monkeypatch.chdir(tmp_path)
    module = load_example("benchmarks/guard_airfoil")
    options = "--num-train 6 --epochs 1 --held-out 2 --airfoils 1"
    module.main(options.split())
    rows = json.loads((tmp_path / "guard_airfoil.json").read_text())
    assert [row["kind"] for row in rows] == list(module.KINDS)
    assert all(row["box"] == 0 and row["mean_error"] > 0 for row in rows)
    assert (tmp_path / "guard_airfoil.png").read_bytes().startswith(b"\x89PNG")


def test_bands_of_cars(checkpoint, monkeypatch, capsys):
    module = load_example("benchmarks/bands")
    cars = Notchback(num_points=300, panels_along=16, panels_around=6)
    monkeypatch.setattr(module, "CARS", cars)
    module.main([*[str(checkpoint)] * 2, "--calibration", "9", "--new", "2"])
    alone, together = map(json.loads, capsys.readouterr().out.splitlines())
    assert (alone["members"], together["members"]) == (0, 1)
    # The member is the same network: what both spare is the floor of the spread.
    assert together["half width"] == pytest.approx(alone["half width"], rel=1e-4)
    assert 0 <= alone["points held"] <= 1 and alone["drag"] > 0


def test_orders_of_refinement(capsys, monkeypatch):
    module = load_example("benchmarks/refinement")
    monkeypatch.setattr(module, "SIDES", (5, 9, 17))
    monkeypatch.setattr(module, "FINEST", 65)
    module.main([])
    lines = capsys.readouterr().out.splitlines()[1:]
    orders = {
        tuple(line.split(", ")[:2]): float(line.split(", ")[-1]) for line in lines
    }
    for name in ("FLARE", "FLAREPP", "Transolver"):
        assert orders[name, "areas"] > 1.5
        assert orders[name, "none"] < 0.7


def test_spectra_of_a_checkpoint(checkpoint, tmp_path):
    lower, upper = map(np.array, Notchback.coordinate_bounds)
    body = pv.Sphere(theta_resolution=6, phi_resolution=6)
    body.points = (lower + upper) / 2 + body.points * (upper - lower)
    body.save(tmp_path / "body.vtp")
    found = load_example("spectrum").main([str(checkpoint), str(tmp_path / "body.vtp")])
    (block,) = found["body_vtp"]
    assert all(1 <= used <= 4 for used in block["latents_for_95_percent"])
    assert len(block["eigenvalues"]) == 2
    assert (tmp_path / "spectrum_body_vtp.png").exists()
