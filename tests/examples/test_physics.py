"""The examples of all benchmarks but the demo, on a few simulated samples."""

import json

import pytest
import pyvista as pv

from tests.examples.loading import load_example
from torch_geometric_flare.surrogates import load_surrogate

# Name of the example, its picture, field and points.
RUNS = [
    pytest.param("elasticity", "stress", "stress", 972),
    pytest.param("darcy", "pressure", "pressure", 100),
    pytest.param("pipe", "velocity", "velocity_x", 129 * 129, marks=pytest.mark.slow),
    pytest.param(
        "lpbf", "displacement", "displacement_z", None, marks=pytest.mark.slow
    ),
    pytest.param(
        "airfoil", "mach_number", "mach_number", 111 * 26, marks=pytest.mark.slow
    ),
]


@pytest.fixture(autouse=True)
def in_a_new_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("name", "picture", "field", "points"), RUNS)
def test_writes_what_it_promises(name, picture, field, points, tmp_path, capsys):
    options = ["--num-train=2", "--num-test=1", "--epochs=1", "--device=cpu"]
    if name == "darcy":
        options.append("--num-points=100")
    load_example(name).main(options)
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith(f"{name}-simulated-")
    results = json.loads((run / "metrics.json").read_text())
    assert results["data"] == "simulated"
    assert points is None or results["num_points"] == points
    assert 0 < results["relative_l2_of_nearest_training_sample"] < 2
    assert ("legacy_error" in results) == (name == "lpbf")
    for file in (f"{picture}.png", "loss.png"):
        assert (run / file).read_bytes().startswith(b"\x89PNG")
    cloud = pv.read(run / "prediction.vtp")
    assert cloud.n_points == results["num_points"]
    assert "simulated" in str(cloud.field_data["title"])
    surrogate = load_surrogate(run / "last.ckpt")
    assert [f.name for f in surrogate.fields] == [field]
    assert surrogate.training_data.startswith("simulated ")
    assert "published" not in capsys.readouterr().out


def test_the_gallery_shows_the_newest_runs(tmp_path, capsys):
    gallery = load_example("gallery")
    assert gallery.main([]) == 2
    assert "holds no run with a picture" in capsys.readouterr().err
    from matplotlib.figure import Figure

    for folder in ("pipe-simulated-1", "pipe-simulated-2", "darcy-simulated-1"):
        path = tmp_path / "runs" / folder
        path.mkdir(parents=True)
        figure = Figure(figsize=(2, 1))
        for picture in ("velocity", "pressure"):
            figure.savefig(path / f"{picture}.png", dpi=20)
    found = gallery.newest_pictures("runs")
    assert {name: path.parent.name for name, path in found.items()} == {
        "pipe": "pipe-simulated-2",
        "darcy": "darcy-simulated-1",
    }
    assert gallery.main(["--output", "all.png"]) == 0
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")
    for output in ("all.docx", "none/all.png"):
        with pytest.raises(SystemExit):
            gallery.main(["--output", output])
        assert capsys.readouterr().err.startswith("error: ")
