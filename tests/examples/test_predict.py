import csv
import html
import subprocess
import sys

import numpy as np
import pytest
import pyvista as pv
import torch

import torch_geometric_flare.nn.models
from tests.examples.loading import EXAMPLES, load_example
from torch_geometric_flare.fields import Field
from torch_geometric_flare.mesh_io import mesh_normals, read_mesh
from torch_geometric_flare.metrics import mesh_forces
from torch_geometric_flare.nn import FLARE, backbone
from torch_geometric_flare.surrogates import Surrogate, save_surrogate
from torch_geometric_flare.transforms import Normalizer

SCRIPT = EXAMPLES / "predict.py"
LOWER, UPPER = (-1.0, -1.1, -0.3), (4.0, 1.1, 1.2)


@pytest.fixture(scope="module")
def main():
    return load_example("predict").main


PRESSURE = (Field("pressure", unit="m²/s²"),)


def save_checkpoint(path, in_channels=3, coordinates=True, fields=PRESSURE):
    torch.manual_seed(3)
    surrogate = Surrogate(
        FLARE(in_channels, 16, 1, num_layers=1, heads=2, num_latents=4),
        Normalizer([-230.0], [270.0]),
        Normalizer.from_bounds(LOWER, UPPER) if coordinates else None,
        fields=fields,
    )
    path.parent.mkdir(exist_ok=True)
    save_surrogate(surrogate, path)
    return surrogate.model


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "simulated_cars" / "last.ckpt"
    model = save_checkpoint(path)

    @torch.no_grad()
    def expected(points):
        lower, upper = torch.tensor(LOWER), torch.tensor(UPPER)
        x = (torch.tensor(np.array(points)).float() - lower) / (upper - lower)
        return (model.eval()(x) * 270.0 - 230.0).squeeze(1).numpy()

    return path, expected


def body(scale=1.0):
    """An ellipsoid in the place of a car."""
    mesh = pv.ParametricEllipsoid(2.4, 0.9, 0.7, u_res=12, v_res=10, w_res=2)
    mesh = mesh.triangulate().clean()
    mesh.clear_data()
    return mesh.translate((1.5, 0.0, 0.4)).scale(scale)


def save(mesh, path):
    if path.suffix == ".vtu":
        mesh = mesh.cast_to_unstructured_grid()
    mesh.save(path)
    return path


@pytest.mark.parametrize("suffix", [".stl", ".ply", ".obj", ".vtp", ".vtu"])
def test_vertices_of_every_format(main, tmp_path, checkpoint, suffix, capsys):
    path, expected = checkpoint
    mesh = save(body(), tmp_path / f"car{suffix}")
    assert main([str(path), str(mesh)]) == 0
    written = ".vtu" if suffix == ".vtu" else ".vtp"
    output = tmp_path / f"car_{suffix[1:]}_predicted{written}"
    assert f"wrote {output}" in capsys.readouterr().out
    result = pv.read(output)
    assert result.n_cells == body().n_cells
    np.testing.assert_allclose(
        np.sort(result.points[:, 0]), np.sort(body().points[:, 0]), atol=1e-5
    )
    pressure = result.point_data["pressure"]
    assert pressure.shape == (result.n_points,)
    np.testing.assert_allclose(pressure, expected(result.points), atol=0.01)
    assert pressure.std() > 0.1  # a field, not a number
    assert "pressure" not in result.cell_data


def test_cells(main, tmp_path, checkpoint):
    path, expected = checkpoint
    mesh = save(body(), tmp_path / "car.stl")
    output = tmp_path / "out.vtk"
    assert main([str(path), str(mesh), "--cells", "--output", str(output)]) == 0
    result = pv.read(output)
    corners = result.points[result.regular_faces]
    pressure = result.cell_data["pressure"]
    np.testing.assert_allclose(pressure, expected(corners.mean(1)), atol=0.01)
    assert "pressure" not in result.point_data


def test_a_volume_mesh_keeps_its_points_and_its_data(main, tmp_path, checkpoint):
    path, expected = checkpoint
    grid = pv.ImageData(
        dimensions=(4, 3, 3), spacing=(1.4, 0.8, 0.5), origin=(-0.9, -0.8, -0.2)
    ).cast_to_unstructured_grid()
    grid.point_data["temperature"] = np.arange(36.0)
    grid.save(tmp_path / "room.vtu")
    assert main([str(path), str(tmp_path / "room.vtu")]) == 0
    result = pv.read(tmp_path / "room_vtu_predicted.vtu")
    assert result.n_points == 36
    assert result.point_data["temperature"].tolist() == list(range(36))
    np.testing.assert_allclose(
        result.point_data["pressure"], expected(result.points), atol=0.01
    )


def test_millimetres_are_refused_and_scale_is_the_remedy(
    main, tmp_path, checkpoint, capsys
):
    path, expected = checkpoint
    mesh = save(body(1000.0), tmp_path / "car.vtp")
    assert main([str(path), str(mesh)]) == 2
    message = capsys.readouterr().err
    assert "car.vtp: the mesh extends over x [-767.8, 3864]" in message
    assert "x [-1, 4], y [-1.1, 1.1], z [-0.3, 1.2]" in message
    assert "--scale 0.001 if the mesh is in millimeters" in message
    assert not list(tmp_path.glob("*_predicted*"))

    assert main([str(path), str(mesh), "--scale", "0.001"]) == 0
    result = pv.read(tmp_path / "car_vtp_predicted.vtp")
    np.testing.assert_array_equal(result.points, body(1000.0).points)
    np.testing.assert_allclose(
        result.point_data["pressure"], expected(result.points * 1e-3), atol=0.01
    )


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda m: m.scale(100), "0.01 if the mesh is in centimeters"),
        (lambda m: m.scale(1 / 0.0254), "0.0254 if the mesh is in inches"),
        (lambda m: m.scale(1 / 0.3048), "0.3048 if the mesh is in feet"),
        (lambda m: m.scale(0.25), "--scale FACTOR"),
        (lambda m: m.translate((10, 0, 0)), "move and turn the mesh"),
        (lambda m: m.rotate_z(90), "stand as those of the training"),
    ],
)
def test_other_misplaced_meshes(main, tmp_path, checkpoint, capsys, change, hint):
    mesh = save(change(body()), tmp_path / "car.vtp")
    assert main([str(checkpoint[0]), str(mesh)]) == 2
    assert hint in capsys.readouterr().err


def test_warns_of_what_lies_outside_of_the_trained_box(
    main, tmp_path, checkpoint, capsys
):
    mesh = save(body(), tmp_path / "car.vtp")
    assert main([str(checkpoint[0]), str(mesh)]) == 0
    assert capsys.readouterr().err == ""
    mesh = save(body().translate((2.0, 0, 0)), tmp_path / "car.vtp")
    assert main([str(checkpoint[0]), str(mesh)]) == 0
    share = np.mean(pv.read(mesh).points[:, 0] <= 4.0)
    assert 0.3 < share < 0.8
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ") and f"only {share:.0%} of the mesh" in line


def test_chunks_give_the_same(main, tmp_path, checkpoint, capsys, monkeypatch):
    mesh = save(body(), tmp_path / "car.stl")
    output = tmp_path / "car_stl_predicted.vtp"
    used = []
    run = backbone.run_in_chunks
    monkeypatch.setattr(
        backbone, "run_in_chunks", lambda *a: used.append(a[3]) or run(*a)
    )
    results = []
    for chunk in ([], ["--chunk=17"]):
        assert main([str(checkpoint[0]), str(mesh), *chunk]) == 0
        results.append(pv.read(output).point_data["pressure"])
    assert set(used) == {17}
    np.testing.assert_allclose(*results, atol=0.01)
    assert main([str(checkpoint[0]), str(mesh), "--chunk=0"]) == 2
    assert "chunk_size" in capsys.readouterr().err


def test_the_mesh_itself_is_never_written_over(main, tmp_path, checkpoint, capsys):
    paths = [tmp_path / "car.vtp", tmp_path / "car.vtk"]
    for path in paths:
        save(body(), path)
    before = [path.read_bytes() for path in paths]
    for path in paths:
        assert main([str(checkpoint[0]), str(path)]) == 0
        assert main([str(checkpoint[0]), str(path), f"--output={path}"]) == 2
        assert "is the mesh itself" in capsys.readouterr().err
    assert [path.read_bytes() for path in paths] == before
    assert len(list(tmp_path.glob("car*_predicted.vtp"))) == 2


@pytest.mark.parametrize("scale", ["0", "nan", "-1", "inf"])
def test_a_scale_that_is_none(main, tmp_path, checkpoint, capsys, scale):
    mesh = save(body(), tmp_path / "car.vtp")
    assert main([str(checkpoint[0]), str(mesh), f"--scale={scale}"]) == 2
    assert f"error: --scale {float(scale)}: give" in capsys.readouterr().err


def test_provenance(main, tmp_path, checkpoint):
    mesh = save(body(), tmp_path / "car.ply")
    assert main([str(checkpoint[0]), str(mesh)]) == 0
    (note,) = pv.read(tmp_path / "car_ply_predicted.vtp").field_data["provenance"]
    assert note.startswith(
        "predicted by FLARE from checkpoint simulated_cars/last.ckpt"
    )


def test_wrong_files(main, tmp_path, checkpoint, capsys):
    path, _ = checkpoint
    mesh = save(body(), tmp_path / "car.stl")

    def error(*arguments):
        assert main([str(argument) for argument in arguments]) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ")
        assert captured.err.count("\n") == 1
        return captured.err

    assert "absent.stl' is not a file" in error(path, tmp_path / "absent.stl")
    assert "absent.ckpt' is not a file" in error(tmp_path / "absent.ckpt", mesh)
    assert "is none of .stl" in error(path, path)
    for name in ("broken.stl", "broken.vtp", "broken.vtu", "broken.ply", "broken.obj"):
        (tmp_path / name).write_text("not a mesh\n")
        assert name in error(path, tmp_path / name)
    (tmp_path / "text.ckpt").write_text("not a checkpoint")
    assert "text.ckpt" in error(tmp_path / "text.ckpt", mesh)
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.ckpt")
    assert "other.ckpt" in error(tmp_path / "other.ckpt", mesh)
    assert "written as .vtp" in error(path, mesh, "--output", tmp_path / "car.stl")
    assert "no/car.vtp" in error(path, mesh, "--output", tmp_path / "no" / "car.vtp")

    save_checkpoint(tmp_path / "no_coordinates.ckpt", coordinates=False)
    assert "coordinate_normalizer" in error(tmp_path / "no_coordinates.ckpt", mesh)
    save_checkpoint(tmp_path / "wide.ckpt", in_channels=6)
    assert "6" in error(tmp_path / "wide.ckpt", mesh)


def test_a_checkpoint_without_names_has_one_field(main, tmp_path):
    path = tmp_path / "run" / "last.ckpt"
    save_checkpoint(path, fields=None)
    mesh = save(body(), tmp_path / "car.stl")
    assert main([str(path), str(mesh)]) == 0
    result = pv.read(tmp_path / "car_stl_predicted.vtp")
    assert "field" in result.point_data and "pressure" not in result.point_data


BOX = Normalizer.from_bounds(LOWER, UPPER)


class Echo(torch.nn.Module):
    """Predicts its own input."""

    def __init__(self):
        super().__init__()

    def forward(self, x):
        return x


def save_echo(monkeypatch, path, fields, features, coordinates=BOX):
    """A surrogate that gives back its input: coordinates, then features."""
    monkeypatch.setattr("torch_geometric_flare.nn.models.Echo", Echo, raising=False)
    names = torch_geometric_flare.nn.models.__all__
    monkeypatch.setattr("torch_geometric_flare.nn.models.__all__", [*names, "Echo"])
    channels = sum(field.channels for field in fields)
    target = Normalizer.identity(channels)
    save_surrogate(
        Surrogate(Echo(), target, coordinates, fields=fields, features=features), path
    )
    return str(path)


def test_fields_and_inputs_have_the_names_of_the_checkpoint(
    main, tmp_path, monkeypatch, capsys
):
    inputs = (Field("normal", 3), Field("area", 1, "m²"), Field("inlet", 2, "m/s"))
    fields = (Field("place", 3), Field("direction", 3), Field("size", 1, "m²"))
    path = save_echo(
        monkeypatch, tmp_path / "echo.ckpt", (*fields, Field("wind", 2)), inputs
    )
    mesh = save(body(1000.0), tmp_path / "car.stl")
    arguments = [path, str(mesh), "--scale=0.001", "--set=inlet=3,-4.5"]
    for cells in (False, True):
        assert main([*arguments, "--cells"] if cells else arguments) == 0
        assert "size (m²) at" in capsys.readouterr().out
        result = pv.read(tmp_path / "car_stl_predicted.vtp")
        data = result.cell_data if cells else result.point_data
        found = read_mesh(mesh)
        np.testing.assert_allclose(
            data["direction"], mesh_normals(found, cells=cells), atol=1e-6
        )
        assert data["size"].sum() == pytest.approx(body().area, rel=1e-4)
        assert (data["wind"] == [3.0, -4.5]).all()
        assert result.field_data["size_unit"].tolist() == ["m²"]
        points = (result.cell_centers() if cells else result).points * 1e-3
        size = np.subtract(UPPER, LOWER)
        np.testing.assert_allclose(data["place"], (points - LOWER) / size, atol=1e-5)


def test_an_input_that_is_missing_is_named(main, tmp_path, monkeypatch, capsys):
    fields = (Field("field", 4),)
    inputs = (Field("permeability", 1, "m²"),)
    path = save_echo(monkeypatch, tmp_path / "echo.ckpt", fields, inputs)
    plain = body()
    mesh = save(plain, tmp_path / "car.vtp")

    def error(*options):
        assert main([path, str(mesh), *options]) == 2
        return capsys.readouterr().err

    assert "lacks the input permeability (m²) of the model" in error()
    assert "set permeability=VALUE" in error()
    assert "takes permeability (m²)" in error("--set=porosity=1")
    assert "has 2 channels, but the model takes 1" in error("--set=permeability=1,2")
    assert "give NAME=VALUE" in error("--set=permeability=high")
    assert "give NAME=VALUE" in error("--set=permeability")
    assert "not finite" in error("--set=permeability=nan")
    assert main([path, str(mesh), "--set=permeability=2.5"]) == 0
    result = pv.read(tmp_path / "car_vtp_predicted.vtp")
    assert (result.point_data["field"][:, 3] == 2.5).all()

    plain.point_data["permeability"] = np.arange(plain.n_points)
    save(plain, mesh)
    assert main([path, str(mesh)]) == 0
    result = pv.read(tmp_path / "car_vtp_predicted.vtp")
    np.testing.assert_array_equal(
        result.point_data["field"][:, 3], np.arange(plain.n_points)
    )
    assert "add cell data of that name" in error("--cells")


def test_meshes_of_the_plane(main, tmp_path, monkeypatch, capsys):
    plane = Normalizer.from_bounds((0.0, 0.0), (2.0, 1.0))
    path = save_echo(monkeypatch, tmp_path / "e.ckpt", (Field("x", 2),), (), plane)
    flat = pv.Plane(i_size=2, j_size=1).translate((1.0, 0.5, 7.0))
    mesh = save(flat, tmp_path / "plate.vtu")
    assert main([path, str(mesh)]) == 0
    result = pv.read(tmp_path / "plate_vtu_predicted.vtu")
    np.testing.assert_allclose(
        result.point_data["x"] * [2, 1], flat.points[:, :2], atol=1e-6
    )
    assert main([path, str(save(body(), tmp_path / "car.stl"))]) == 2
    assert "is not flat, but the model was trained in the plane" in (
        capsys.readouterr().err
    )


@pytest.mark.mesh_process
def test_a_mesh_of_faces_that_do_not_exist(main, tmp_path, checkpoint, capsys):
    mesh = tmp_path / "car.obj"
    mesh.write_text("v 0 0 0\nv 3 0 0\nv 0 1 0\nf 1 2 900000\n")
    assert main([str(checkpoint[0]), str(mesh), "--cells"]) == 2
    assert "its 3 vertices are 0 to 2" in capsys.readouterr().err


def test_a_folder(main, tmp_path, checkpoint, capsys):
    path, expected = checkpoint
    folder = tmp_path / "bodies"
    folder.mkdir()
    save(body(), folder / "a.stl")
    (folder / "b.vtp").write_text("not a mesh")
    save(body(), folder / "c.vtu")
    (folder / "notes.txt").write_text("")
    (folder / "._a.stl").write_text("hidden")
    assert main([str(path), str(folder)]) == 2  # of the broken one
    (line,) = capsys.readouterr().err.splitlines()
    assert "b.vtp" in line
    written = tmp_path / "bodies_predicted"
    names = sorted(file.name for file in written.iterdir())
    assert names == ["a_stl_predicted.vtp", "c_vtu_predicted.vtu"]
    result = pv.read(written / names[1])
    np.testing.assert_allclose(
        result.point_data["pressure"], expected(result.points), atol=0.01
    )
    (tmp_path / "empty").mkdir()
    assert main([str(path), str(tmp_path / "empty")]) == 2
    assert "holds no meshes" in capsys.readouterr().err


class Ramp(torch.nn.Module):
    """A pressure of -3 z, whose force on a closed body is 3 times its volume, up."""

    def __init__(self):
        super().__init__()

    def forward(self, x):
        return -3 * x[:, 2:]


def save_ramp(monkeypatch, path, unit):
    monkeypatch.setattr("torch_geometric_flare.nn.models.Ramp", Ramp, raising=False)
    names = torch_geometric_flare.nn.models.__all__
    monkeypatch.setattr("torch_geometric_flare.nn.models.__all__", [*names, "Ramp"])
    box = Normalizer([0.0] * 3, [1.0] * 3)
    fields = (Field("pressure", 1, unit),)
    save_surrogate(Surrogate(Ramp(), Normalizer.identity(1), box, fields=fields), path)
    return str(path)


def test_forces(main, tmp_path, monkeypatch, capsys):
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


def test_errors_of_forces_stand_beside_their_baseline(
    main, tmp_path, monkeypatch, capsys
):
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


def test_forces_need_a_pressure_on_a_surface(main, tmp_path, checkpoint, capsys):
    flow = ["--forces", "--speed=2", "--area=0.5"]
    grid = pv.ImageData(dimensions=(4, 3, 3)).cast_to_unstructured_grid()
    grid = grid.translate((-0.5, -1.0, -0.5))
    room = save(grid, tmp_path / "room.vtu")
    assert main([str(checkpoint[0]), str(room), *flow]) == 2
    assert "room.vtu: --forces needs a surface" in capsys.readouterr().err
    save_checkpoint(tmp_path / "other.ckpt", fields=(Field("heat"),))
    assert main([str(tmp_path / "other.ckpt"), str(room), *flow]) == 2
    assert "needs a field 'pressure', but it has heat" in capsys.readouterr().err


def test_pictures(main, tmp_path, checkpoint, capfd):
    mesh = body()
    mesh.point_data["pressure"] = mesh.points[:, 0]
    name = r'a $\x$ "ü" <b>&c'  # Matplotlib knows no formula `$\x$`
    save(mesh, tmp_path / f"{name}.vtp")
    arguments = [str(checkpoint[0]), str(tmp_path / f"{name}.vtp"), "--png", "--html"]
    assert main(arguments) == 0
    page = (tmp_path / f"{name}_vtp_predicted_pressure.html").read_text("utf-8")
    assert "prediction" in page and "trained on" in page
    assert f"<h1>{html.escape(name)}.vtp: pressure</h1>" in page
    picture = pv.read(tmp_path / f"{name}_vtp_predicted_pressure.png")
    assert np.ptp(picture.active_scalars.astype(int)) > 50
    assert capfd.readouterr().err == ""  # no noise of VTK


@pytest.mark.slow
def test_command_line(tmp_path, checkpoint):
    mesh = save(body(1000.0), tmp_path / "car.stl")
    command = [sys.executable, str(SCRIPT), str(checkpoint[0]), str(mesh)]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "--scale 0.001" in refused.stderr
    assert "Traceback" not in refused.stderr
    done = subprocess.run([*command, "--scale", "1e-3"], capture_output=True, text=True)
    assert done.returncode == 0
    assert pv.read(tmp_path / "car_stl_predicted.vtp").n_points == body().n_points


@pytest.mark.parametrize("gaps, cells", [([3], True), ([0, 7, 20], False)])
def test_gaps_in_the_truth_are_left_out_and_counted(
    main, tmp_path, monkeypatch, capsys, gaps, cells
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
