import dataclasses
import json

import numpy as np
import pytest
import pyvista as pv
from huggingface_hub import constants

from tests.examples.loading import load_example
from torch_geometric_flare.surrogates import load_surrogate

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
    module = load_example("drivaerml")
    monkeypatch.chdir(tmp_path)
    return module


def output(capsys, folder):
    """The output without paths, which hold the name of the test."""
    return capsys.readouterr().out.replace(str(folder), "")


@pytest.mark.slow
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
    errors = [stored[f"drag_coefficient_{n}"] for n in ("mean_absolute_error", "r2")]
    assert 0 < errors[0] <= stored["drag_coefficient_largest_absolute_error"]
    constant = stored["drag_coefficient_mean_absolute_error_of_training_mean"]
    assert 0 < constant < 0.1
    assert stored["drag_coefficient_rank_correlation"] == pytest.approx(1) or (
        stored["drag_coefficient_rank_correlation"] == pytest.approx(-1)
    )
    assert errors[1] < 1 and stored["drag_coefficient_worst_sample"] in (0, 1)
    surrogate = load_surrogate(run / "last.ckpt")
    body = pv.read(run / "prediction.vtp")
    assert body.n_cells == 2 * 64 * 24 and body.is_manifold
    arrays = body.cell_data
    assert set(arrays) >= {"pressure", "pressure_true", "normal", "area"}
    np.testing.assert_allclose(
        arrays["pressure"] - arrays["pressure_true"],
        arrays["pressure_error"],
        atol=1e-2,
    )
    # On cells of this surface the surrogate does what it does on the sampled points.
    drag = -(arrays["pressure"] * arrays["normal"][:, 0] * arrays["area"]).sum()
    drag /= 0.5 * 38.889**2 * 2.17
    assert 0.0 < drag < 0.4
    notes = {name: str(body.field_data[name]) for name in list(body.field_data)}
    true = arrays["pressure_true"].astype(np.float64)
    error = np.linalg.norm(arrays["pressure"] - true) / np.linalg.norm(true)
    title = str(body.field_data["title"][0])
    assert title == f"simulated car, relative L2 error {error:.1%} on 3,072 cells"
    assert "m²/s²" in notes["pressure_unit"]
    assert "simulated cars" in notes["provenance"]
    assert surrogate.training_data == "simulated cars"

    lines = capsys.readouterr().out.splitlines()
    (told,) = (line for line in lines if line.startswith("drag coefficient: "))
    assert f" {errors[0]:.3g}, " in told and f" {constant:.3g}, " in told
    command = lines[1].split()
    assert command[0] == "python" and command[2:] == [f"--resume={run}"]
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
    # The variable of that name is read once, when the library is imported.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "40k" in refused(example, capsys, "--data=official", "--root=data")
    many = refused(example, capsys, "--num-points=many")
    assert "--num-points is many" in many
    assert "epochs must be at least 1, got 0" in refused(example, capsys, "--epochs=0")
    typo = refused(example, capsys, "--resume=runs/typo")
    assert "runs/typo' is not a folder" in typo
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


def small_cars(example, monkeypatch):
    """Let the quick recipe take as few points as these cars have."""
    recipes = {
        key: dataclasses.replace(recipe, num_points=50)
        for key, recipe in example.DRIVAERML.recipes.items()
    }
    small = dataclasses.replace(example.DRIVAERML, recipes=recipes)
    monkeypatch.setattr(example, "DRIVAERML", small)


@pytest.mark.slow
def test_files_laid_out_as_the_official_ones(example, tmp_path, monkeypatch):
    small_cars(example, monkeypatch)
    official_files(tmp_path / "data")
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


def test_several_fields(example, tmp_path, monkeypatch, capsys):
    small_cars(example, monkeypatch)
    official_files(tmp_path / "data")
    fields = "--fields=wall_shear_stress,pressure"
    example.main(
        ["--data=official", fields, "--epochs=1", "--device=cpu", "--num-train=2"]
    )
    assert "published" not in output(capsys, tmp_path)
    (run,) = (tmp_path / "runs").iterdir()
    stored = json.loads((run / "metrics.json").read_text())
    both = [stored[f"relative_l2_{n}"] for n in ("pressure", "wall_shear_stress")]
    assert stored["relative_l2"] == pytest.approx(sum(both) / 2)
    assert stored["num_train"] == 2
    assert (run / "surface_pressure.png").exists()
    assert (run / "surface_wall_shear_stress.png").exists()
    cloud = pv.read(run / "prediction.vtp")
    for name, shape in (("pressure", (90,)), ("wall_shear_stress", (90, 3))):
        truth, prediction, error = (
            cloud.point_data[f"{name}_{kind}"]
            for kind in ("truth", "prediction", "error")
        )
        assert truth.shape == shape
        np.testing.assert_allclose(prediction - truth, error, rtol=1e-5, atol=1e-3)
        assert cloud.field_data[f"{name}_unit"].tolist() == ["m²/s²"]
    surrogate = load_surrogate(run / "last.ckpt")
    assert [field.name for field in surrogate.fields] == [
        "wall_shear_stress",
        "pressure",
    ]
    # The statistics of the papers, and those of the two training cars.
    assert surrogate.target_normalizer.shift[3].item() == pytest.approx(-229.845718)
    cars = [np.load(path)["surface_fields"] for path in first_cars(tmp_path)]
    mean = np.concatenate(cars)[:, 1:].mean(axis=0)
    shift = surrogate.target_normalizer.shift[:3]
    np.testing.assert_allclose(shift, mean, rtol=1e-4)


def first_cars(folder):
    train = folder / "data/raw/drivaerml_surface_presampled_40k/train"
    return [train / f"run_{number}.npz" for number in (0, 1)]


def test_fields_that_the_data_lack(example, capsys):
    message = refused(example, capsys, *SMALL, "--fields=wall_shear_stress")
    assert "names among ['pressure'], each once, got ('wall_shear_stress',)" in message


@pytest.mark.slow
def test_published_figures_stand_beside_official_ones_alone(
    example, tmp_path, monkeypatch, capsys
):
    """A run of the paper's recipe, but for its length."""
    recipes = {
        key: dataclasses.replace(recipe, num_points=50, epochs=1)
        for key, recipe in example.DRIVAERML.recipes.items()
    }
    recipes["FLARE", "paper"] = recipes["FLARE", "quick"]
    short = dataclasses.replace(example.DRIVAERML, recipes=recipes)
    monkeypatch.setattr(example, "DRIVAERML", short)
    official_files(tmp_path / "data")
    example.main(["--data=official", "--recipe=paper", "--device=cpu"])
    assert "published" not in output(capsys, tmp_path)  # these are not all cars
    monkeypatch.setattr(
        example, "DRIVAERML", dataclasses.replace(short, published_sizes={})
    )
    example.main(["--data=official", "--recipe=paper", "--device=cpu"])
    assert "published for FLARE" in capsys.readouterr().out
    example.main([*SMALL, "--recipe=paper"])
    assert "published" not in output(capsys, tmp_path)
