import csv

import numpy as np
import pytest
import pyvista as pv
import torch

from tests.examples.predicting import (
    main,
    register,
    save,
    save_checkpoint,
)
from torch_geometric_flare.fields import Field
from torch_geometric_flare.metrics import mesh_forces
from torch_geometric_flare.surrogates import Surrogate, save_surrogate
from torch_geometric_flare.transforms import Normalizer


class Ramp(torch.nn.Module):
    """A pressure of -3 z, whose force on a closed body is 3 times its volume, up."""

    def __init__(self):  # without arguments, which a checkpoint would store
        super().__init__()

    def forward(self, x):
        return -3 * x[:, 2:]


def save_ramp(monkeypatch, path, unit):
    register(monkeypatch, Ramp)
    box = Normalizer([0.0] * 3, [1.0] * 3)
    fields = (Field("pressure", 1, unit),)
    save_surrogate(Surrogate(Ramp(), Normalizer.identity(1), box, fields=fields), path)
    return str(path)


def test_forces(tmp_path, monkeypatch, capsys):
    path = save_ramp(monkeypatch, tmp_path / "r.ckpt", "m²/s²")
    ball = pv.Sphere(
        radius=0.4, center=(0.5, 0.5, 0.5), theta_resolution=24, phi_resolution=24
    )
    ball.clear_data()
    ball.cell_data["pressure"] = -6 * ball.cell_centers().points[:, 2]
    mesh = save(ball.scale(1000.0), tmp_path / "ball.vtp")
    flow = ["--speed=2", "--area=0.5", "--length=2"]
    command = [str(mesh), "--scale=0.001", "--cells", "--forces", *flow]
    assert main([path, *command]) == 0
    lines = (tmp_path / "forces.csv").read_text().splitlines()
    assert lines[0] == "mesh,source,drag,lift,roll,pitch,yaw"
    # Force 3 V at the centre of the ball: 3 V / (½ 2² 0.5); about the origin the arm
    # is (½, ½, ½), so rolling by +½ and pitching by nose down, over the length of 2.
    lift = 3 * ball.volume
    expected = np.array([0, lift, lift / 4, -lift / 4, 0])
    for line, source, factor in zip(
        lines[1:], ("predicted", "truth"), (1, 2), strict=True
    ):
        name, found, *values = line.split(",")
        assert (name, found) == (str(mesh), source)
        np.testing.assert_allclose(
            np.array(values, float), factor * expected, atol=1e-3 * factor
        )
    out = capsys.readouterr().out
    assert f"coefficients, predicted, without friction: drag {0:.4f}" in out.replace(
        "-0.0000", "0.0000"
    )
    result = pv.read(tmp_path / "ball_vtp_predicted.vtp").cell_data
    np.testing.assert_allclose(result["pressure_true"], ball.cell_data["pressure"])
    np.testing.assert_allclose(
        result["pressure_error"], result["pressure"] - result["pressure_true"]
    )
    again = [path, str(tmp_path / "ball_vtp_predicted.vtp"), *command[1:]]
    assert main(again) == 0  # a prediction is not a truth, which stays what it was
    assert [line.split(",")[2:] for line in lines[1:]] == [
        line.split(",")[2:]
        for line in (tmp_path / "forces.csv").read_text().splitlines()[1:]
    ]

    pascal = save_ramp(monkeypatch, tmp_path / "pa.ckpt", "Pa")
    assert main([pascal, *command]) == 2
    assert "needs --density" in capsys.readouterr().err
    assert main([pascal, *command, "--density=1.25"]) == 0
    lines = (tmp_path / "forces.csv").read_text().splitlines()
    assert float(lines[1].split(",")[3]) == pytest.approx(lift / 1.25, abs=1e-3)
    with pytest.raises(SystemExit):
        main([path, str(mesh), "--forces", "--speed=2"])
    assert "--forces needs --speed and --area" in capsys.readouterr().err


def test_errors_of_forces_stand_beside_their_baseline(tmp_path, monkeypatch, capsys):
    """The lift of a ball under p = -c z is c V over the dynamic pressure and area."""
    path = save_ramp(monkeypatch, tmp_path / "r.ckpt", "m²/s²")
    balls, trained = tmp_path / "balls", tmp_path / "trained"
    # Ramp predicts p = -3 z for all.
    for folder, factors in ((balls, (3.0, 5.0, 4.0, None)), (trained, (2.0, 4.0))):
        folder.mkdir()
        for number, factor in enumerate(factors):
            ball = pv.Sphere(radius=0.3 + 0.02 * number, center=(0.5, 0.5, 0.5))
            ball.clear_data()
            if factor:
                ball.cell_data["pressure"] = -factor * ball.cell_centers().points[:, 2]
            save(ball, folder / f"ball_{number}.vtp")
    volumes = [pv.Sphere(radius=r).volume for r in (0.3, 0.32, 0.34)]
    true = torch.tensor([f * v for f, v in zip((3, 5, 4), volumes, strict=True)])
    predicted = 3 * torch.tensor(volumes)
    mean = (2 * volumes[0] + 4 * volumes[1]) / 2
    command = ["--cells", "--forces", "--speed=2", "--area=0.5"]
    assert main([path, str(balls), *command, f"--train-meshes={trained}"]) == 0
    with (tmp_path / "balls_predicted" / "force_errors.csv").open(newline="") as file:
        drag, lift, *moments = csv.DictReader(file)
    assert [row["coefficient"] for row in moments] == ["roll", "pitch", "yaw"]
    assert lift["coefficient"] == "lift" and lift["meshes"] == "3"
    error = (predicted - true).abs()
    spread = (true - true.mean()).square().sum()
    expected = {
        "mean_absolute_error": error.mean(),
        "largest_absolute_error": error.max(),
        "mean_absolute_error_of_training_mean": (true - mean).abs().mean(),
        "r2": 1 - error.square().sum() / spread,
        "rank_correlation": 0.5,  # 1, 2, 3 against 1, 3, 2
    }
    for name, value in expected.items():
        assert float(lift[name]) == pytest.approx(float(value), abs=2e-3), name
    assert lift["worst_mesh"] == str(balls / "ball_1.vtp")
    line = next(x for x in capsys.readouterr().out.splitlines() if "lift of" in x)
    assert "lift of 3 meshes" in line and "rank correlation 0.50" in line

    # Training meshes whose array has another name, and one with a gap.
    for path_of_ball in trained.iterdir():
        ball = pv.read(path_of_ball)
        ball.cell_data["p static"] = ball.cell_data.pop("pressure")
        save(ball, path_of_ball)
    ball.cell_data["p static"][0] = np.nan
    save(ball, trained / "gap.vtp")
    command += ["--fields=pressure=p static"]
    assert main([path, str(balls), *command, f"--train-meshes={trained}"]) == 0
    captured = capsys.readouterr()
    assert line in captured.out.splitlines() and "gap.vtp" in captured.err

    assert not (tmp_path / "trained_predicted").exists()
    with pytest.raises(SystemExit):
        main([path, str(balls), f"--train-meshes={trained}"])
    assert "--forces" in capsys.readouterr().err

    # Without training meshes nothing is known of their mean, and of one mesh no R².
    one = str(balls / "ball_0.vtp")
    assert main([path, one, *command]) == 0
    assert "--train-meshes" in capsys.readouterr().out
    with (balls / "force_errors.csv").open(newline="") as file:
        drag, lift, *_ = csv.DictReader(file)
    assert lift["r2"] == lift["mean_absolute_error_of_training_mean"] == ""


def test_forces_need_a_pressure_on_a_surface(tmp_path, car_checkpoint, capsys):
    flow = ["--forces", "--speed=2", "--area=0.5"]
    grid = pv.ImageData(dimensions=(4, 3, 3)).cast_to_unstructured_grid()
    grid = grid.translate((-0.5, -1.0, -0.5))
    room = save(grid, tmp_path / "room.vtu")
    assert main([str(car_checkpoint[0]), str(room), *flow]) == 2
    assert "room.vtu: --forces needs a surface" in capsys.readouterr().err
    save_checkpoint(tmp_path / "other.ckpt", fields=(Field("heat"),))
    assert main([str(tmp_path / "other.ckpt"), str(room), *flow]) == 2
    assert "needs a field 'pressure', but it has heat" in capsys.readouterr().err


@pytest.mark.parametrize("gaps, cells", [([3], True), ([0, 7, 20], False)])
def test_gaps_in_the_truth_are_left_out_and_counted(
    tmp_path, monkeypatch, capsys, gaps, cells
):
    path = save_ramp(monkeypatch, tmp_path / "r.ckpt", "m²/s²")
    ball = pv.Sphere(
        radius=0.4, center=(0.5, 0.5, 0.5), theta_resolution=8, phi_resolution=8
    )
    ball.clear_data()
    places = ball.cell_centers().points if cells else ball.points
    data = ball.cell_data if cells else ball.point_data
    data["pressure"] = -6 * places[:, 2]
    data["pressure"][gaps] = np.nan
    mesh = save(ball, tmp_path / "ball.vtp")
    command = [str(mesh), "--forces", "--speed=2", "--area=0.5"]
    # Pictures take most of the time.
    options = ["--cells", "--png", "--html"] if cells else []
    assert main([path, *command, *options]) == 0
    said = capsys.readouterr()
    number = len(places)
    assert f"{len(gaps)} of {number}" in said.err
    for kind in ("png", "html") if cells else ():
        assert (tmp_path / f"ball_vtp_predicted_pressure.{kind}").stat().st_size
    header, *rows = (tmp_path / "forces.csv").read_text().splitlines()
    by_source = {
        row.split(",")[1]: dict(zip(header.split(","), row.split(","), strict=True))
        for row in rows
    }
    assert by_source["predicted"]["values_left_out"] == "0"
    assert by_source["truth"]["values_left_out"] == str(len(gaps))
    assert not (tmp_path / "force_errors.csv").exists()  # of which truth?
    # The places without a truth count nothing, as if the pressure there were zero.
    filled = ball.copy()
    kept = filled.cell_data if cells else filled.point_data
    kept["pressure"] = np.nan_to_num(data["pressure"])
    expected = mesh_forces(
        filled, speed=2, reference_area=0.5, location="cell" if cells else "point"
    )
    for name, value in expected.items():
        assert float(by_source["truth"][name]) == pytest.approx(value, abs=1e-6)
    result = pv.read(tmp_path / "ball_vtp_predicted.vtp")
    error = (result.cell_data if cells else result.point_data)["pressure_error"]
    assert np.flatnonzero(np.isnan(error)).tolist() == gaps
