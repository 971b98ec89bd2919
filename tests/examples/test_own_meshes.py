import json
from pathlib import Path

import numpy as np
import pytest
import pyvista as pv

from tests.examples.loading import load_example
from torch_geometric_flare.surrogates import load_surrogate


@pytest.fixture(scope="module")
def example():
    return load_example("own_meshes")


def test_a_simulated_car_is_a_closed_surface(example):
    mesh = example.car_mesh(np.random.default_rng(0))
    assert mesh.n_open_edges == 0
    assert mesh.cell_data["pressure"].shape == (768,)
    # Symmetric about y = 0: each panel has a mirror image of the same pressure.
    centers = mesh.cell_centers().points
    right = np.flatnonzero(centers[:, 1] > 0)
    for index in right[::37]:
        twin = np.linalg.norm(centers - centers[index] * [1, -1, 1], axis=1).argmin()
        assert mesh.cell_data["pressure"][twin] == mesh.cell_data["pressure"][index]


def test_trains_on_a_folder(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "bodies"
    folder.mkdir()
    for index in range(5):
        ball = pv.Sphere(radius=1 + index / 10, theta_resolution=8, phi_resolution=8)
        ball.clear_data()
        ball.point_data["heat"] = ball.points[:, 2].astype(np.float32)
        ball.save(folder / f"ball_{index}.vtp")
    results = example.main(
        [str(folder), "--fields=heat", "--location=point", "--epochs=20"]
    )
    assert results["relative_l2"] < 0.5 < results["relative_l2_of_training_mean"]
    (run,) = Path("runs").iterdir()
    assert json.loads((run / "metrics.json").read_text()) == results
    assert (run / "heat.png").stat().st_size > 10_000
    (written,) = (run / "predicted").iterdir()
    mesh = pv.read(written)
    np.testing.assert_allclose(
        mesh["heat_error"], mesh["heat"] - mesh["heat_true"], atol=1e-6
    )


def test_without_the_field(example, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for index in range(3):
        pv.Sphere(radius=1 + index).save(tmp_path / f"ball_{index}.vtp")
    with pytest.raises(SystemExit):
        example.main([str(tmp_path), "--fields=heat"])
    assert "no cell data 'heat'" in capsys.readouterr().err


def test_a_field_that_is_zero_on_a_test_mesh(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "bodies"
    folder.mkdir()

    def write(zero=None):
        for index in range(5):
            ball = pv.Sphere(
                radius=1 + index / 10, theta_resolution=8, phi_resolution=8
            )
            ball.clear_data()
            ball.point_data["heat"] = ball.points[:, 2] * (index != zero)
            ball.save(folder / f"ball_{index}.vtp")

    write()
    options = {"location": "point", "fractions": (0.8, 0.0, 0.2)}
    (held_out,) = example.MeshFolder(
        folder, "test", fields=["heat"], **options
    ).sample_files()
    write(zero=int(held_out[5]))
    with pytest.warns(UserWarning, match="'heat'.* 0:"):
        results = example.main(
            [str(folder), "--fields=heat", "--location=point", "--epochs=1"]
        )
    assert results["meshes_of_absolute_error"] == [held_out]
    (run,) = Path("runs").iterdir()
    surrogate = load_surrogate(run / "last.ckpt")
    predicted = pv.read(run / "predicted" / held_out)["heat"]
    scale = surrogate.target_normalizer.scale.item()
    size = np.sqrt(np.mean(predicted.astype(float) ** 2))
    assert results["relative_l2"] == pytest.approx(size / scale, rel=1e-5)
