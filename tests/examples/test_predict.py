import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import pyvista as pv
import torch

from torch_geometric_flare.nn import FLARE
from torch_geometric_flare.training import SurrogateModule
from torch_geometric_flare.transforms import Normalizer

SCRIPT = Path(__file__).parents[2] / "examples" / "predict.py"
LOWER, UPPER = (-1.0, -1.1, -0.3), (4.0, 1.1, 1.2)


@pytest.fixture(scope="module")
def main():
    spec = importlib.util.spec_from_file_location("predict", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def save_checkpoint(path, in_channels=3, coordinates=True):
    torch.manual_seed(3)
    module = SurrogateModule(
        FLARE(in_channels, 16, 1, num_layers=1, heads=2, num_latents=4),
        Normalizer([-230.0], [270.0]),
        Normalizer.from_bounds(LOWER, UPPER) if coordinates else None,
    )
    contents = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(contents)
    path.parent.mkdir(exist_ok=True)
    torch.save(contents, path)
    return module.surrogate.model


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
    assert "car.vtp extends over x [-767.8, 3864]" in message
    assert "x [-1, 4], y [-1.1, 1.1], z [-0.3, 1.2]" in message
    assert "--scale 0.001 if the mesh is in millimetres" in message
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
        (lambda m: m.scale(100), "0.01 if the mesh is in centimetres"),
        (lambda m: m.scale(1 / 0.0254), "0.0254 if the mesh is in inches"),
        (lambda m: m.scale(1 / 0.3048), "0.3048 if the mesh is in feet"),
        (lambda m: m.scale(0.25), "--scale FACTOR"),
        (lambda m: m.translate((10, 0, 0)), "move and turn the mesh"),
        (lambda m: m.rotate_z(90), "flow along +x"),
    ],
)
def test_other_misplaced_meshes(main, tmp_path, checkpoint, capsys, change, hint):
    mesh = save(change(body()), tmp_path / "car.vtp")
    assert main([str(checkpoint[0]), str(mesh)]) == 2
    assert hint in capsys.readouterr().err


def test_says_how_much_lies_in_the_trained_box(main, tmp_path, checkpoint, capsys):
    mesh = save(body(), tmp_path / "car.vtp")
    assert main([str(checkpoint[0]), str(mesh)]) == 0
    captured = capsys.readouterr()
    assert "100% of" in captured.out
    assert captured.err == ""
    mesh = save(body().translate((2.0, 0, 0)), tmp_path / "car.vtp")
    assert main([str(checkpoint[0]), str(mesh)]) == 0
    captured = capsys.readouterr()
    share = np.mean(pv.read(mesh).points[:, 0] <= 4.0)
    assert 0.3 < share < 0.8
    assert f"{share:.0%} of" in captured.out
    assert captured.err.startswith("warning: ")


def test_chunks_give_the_same(main, tmp_path, checkpoint, capsys, monkeypatch):
    mesh = save(body(), tmp_path / "car.stl")
    output = tmp_path / "car_stl_predicted.vtp"
    used = []
    stream = FLARE._stream
    monkeypatch.setattr(FLARE, "_stream", lambda *a: used.append(a[3]) or stream(*a))
    results = []
    for chunk in ([], ["--chunk=17"]):
        assert main([str(checkpoint[0]), str(mesh), *chunk]) == 0
        results.append(pv.read(output).point_data["pressure"])
    assert used == [17]
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

    assert "absent.stl' is no file" in error(path, tmp_path / "absent.stl")
    assert "absent.ckpt' is no file" in error(tmp_path / "absent.ckpt", mesh)
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
