import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import pyvista as pv

from torch_geometric_flare.surrogates import load_surrogate

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


def test_writes_what_it_promises(example, tmp_path, capsys):
    example.main(SMALL)
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("drivaerml-simulated-")
    stored = json.loads((run / "metrics.json").read_text())
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

    command = capsys.readouterr().out.splitlines()[1].split()
    assert command[0] == "python" and command[2:] == [
        *SMALL,
        f"--resume={run.relative_to(tmp_path)}",
    ]
    # Nothing is left to train: resuming measures the same surrogate again.
    example.main(command[2:])
    again = json.loads((run / "metrics.json").read_text())
    assert again["relative_l2"] == stored["relative_l2"]
    assert refused(example, capsys, *SMALL, "--seed=1", f"--resume={run}")


def refused(example, capsys, *arguments):
    """What the user reads."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        example.main(arguments)
    assert caught.value.code == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("error: ")
    return message


def test_what_the_user_can_mend_is_a_sentence(example, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "40k" in refused(example, capsys, "--data=official", "--root=data")
    many = refused(example, capsys, "--num-points=many")
    assert "--num-points is many" in many
    assert "epochs must be at least 1, got 0" in refused(example, capsys, "--epochs=0")
    typo = refused(example, capsys, "--resume=runs/typo")
    assert "runs/typo' is no folder" in typo
    killed = refused(example, capsys, f"--resume={tmp_path}")
    assert "start again without" in killed


def official_files(folder):
    rng = np.random.default_rng(0)
    for split, number in (("train", 3), ("test", 2)):
        target = folder / "raw/drivaerml_surface_presampled_40k" / split
        target.mkdir(parents=True)
        for run in range(number):
            np.savez(
                target / f"run_{run}.npz",
                surface_mesh_centers=rng.uniform(
                    (-0.9, -1, -0.3), (4, 1, 1.2), (90, 3)
                ),
                surface_fields=rng.normal(-200, 100, (90, 4)),
            )


def test_files_laid_out_as_the_official_ones(example, tmp_path, monkeypatch):
    official_files(tmp_path / "data")
    recipe = dataclasses.replace(example.RECIPES["quick"], num_points=50)
    monkeypatch.setitem(example.RECIPES, "quick", recipe)
    example.main(["--data=official", "--epochs=1", "--device=cpu"])
    (run,) = (tmp_path / "runs").iterdir()
    stored = json.loads((run / "metrics.json").read_text())
    assert stored["data"] == "official"
    for name in ("drag", "lift"):
        assert stored[f"{name}_coefficient_true"] is None
        assert stored[f"{name}_coefficient_predicted"] is None
    target = load_surrogate(run / "last.ckpt").target_normalizer
    assert target.shift.item() == pytest.approx(-229.845718)
    assert target.scale.item() == pytest.approx(269.598572)
