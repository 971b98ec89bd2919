import importlib.util
import json
from pathlib import Path

import pytest
import pyvista as pv

from torch_geometric_flare.training import load_surrogate

EXAMPLE = Path(__file__).parents[2] / "examples" / "drivaerml.py"
SMALL = [
    "--num-points=600",
    "--num-train=3",
    "--num-test=2",
    "--epochs=2",
    "--device=cpu",
    "--root=data",
]


@pytest.fixture
def example(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("drivaerml_example", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)
    return module


def test_writes_what_it_promises(example, tmp_path):
    results = example.main(SMALL)
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("drivaerml-simulated-")
    stored = json.loads((run / "metrics.json").read_text())
    assert stored == results
    assert stored["data"] == "simulated"
    assert (stored["num_train"], stored["num_test"]) == (3, 2)
    assert (stored["num_points"], stored["epochs"]) == (600, 2)
    # The constant mean against fields of a deviation of about its own size.
    assert 0.4 < stored["relative_l2_of_training_mean"] < 1.0
    assert 0.05 < stored["relative_l2_of_nearest_training_sample"] < 0.6
    assert 0.1 < stored["drag_coefficient_true"] < 0.3
    for name in ("loss.png", "surface.png"):
        assert (run / name).read_bytes().startswith(b"\x89PNG")
    cloud = pv.read(run / "prediction.vtp")
    assert cloud.n_points == 600
    assert set(cloud.array_names) >= {"truth", "prediction", "error"}
    assert "simulated" in str(cloud.field_data["title"])
    surrogate = load_surrogate(run / "last.ckpt")
    assert surrogate.training_data == "simulated cars"

    # Nothing is left to train: resuming measures the same surrogate again.
    again = example.main([*SMALL, f"--resume={run}"])
    assert again["relative_l2"] == results["relative_l2"]


def test_official_data_ask_for_the_files(example, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises((ConnectionError, FileNotFoundError), match="40k"):
        example.main(["--data=official", "--root=data"])


def test_wrong_number_of_points(example):
    with pytest.raises(SystemExit, match="--num-points is many"):
        example.main(["--num-points=many"])
