import html
import subprocess
import sys

import numpy as np
import pytest
import pyvista as pv
import torch

from tests.examples.loading import EXAMPLES
from tests.examples.predicting import (
    body,
    main,
    save,
    save_checkpoint,
)
from torch_geometric_flare.nn import backbone

SCRIPT = EXAMPLES / "predict.py"


@pytest.mark.parametrize("suffix", [".stl", ".ply", ".obj", ".vtp", ".vtu"])
def test_vertices_of_every_format(tmp_path, car_checkpoint, suffix, capsys):
    path, expected = car_checkpoint
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


def test_cells(tmp_path, car_checkpoint):
    path, expected = car_checkpoint
    mesh = save(body(), tmp_path / "car.stl")
    output = tmp_path / "out.vtk"
    assert main([str(path), str(mesh), "--cells", "--output", str(output)]) == 0
    result = pv.read(output)
    corners = result.points[result.regular_faces]
    pressure = result.cell_data["pressure"]
    np.testing.assert_allclose(pressure, expected(corners.mean(1)), atol=0.01)
    assert "pressure" not in result.point_data


def test_a_volume_mesh_keeps_its_points_and_its_data(tmp_path, car_checkpoint):
    path, expected = car_checkpoint
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
    tmp_path, car_checkpoint, capsys
):
    path, expected = car_checkpoint
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
def test_other_misplaced_meshes(tmp_path, car_checkpoint, capsys, change, hint):
    mesh = save(change(body()), tmp_path / "car.vtp")
    assert main([str(car_checkpoint[0]), str(mesh)]) == 2
    assert hint in capsys.readouterr().err


def test_warns_of_what_lies_outside_of_the_trained_box(
    tmp_path, car_checkpoint, capsys
):
    mesh = save(body(), tmp_path / "car.vtp")
    assert main([str(car_checkpoint[0]), str(mesh)]) == 0
    assert capsys.readouterr().err == ""
    mesh = save(body().translate((2.0, 0, 0)), tmp_path / "car.vtp")
    assert main([str(car_checkpoint[0]), str(mesh)]) == 0
    share = np.mean(pv.read(mesh).points[:, 0] <= 4.0)
    assert 0.3 < share < 0.8
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ") and f"only {share:.0%} of the mesh" in line


def test_chunks_give_the_same(tmp_path, car_checkpoint, capsys, monkeypatch):
    mesh = save(body(), tmp_path / "car.stl")
    output = tmp_path / "car_stl_predicted.vtp"
    used = []
    run = backbone.run_in_chunks
    monkeypatch.setattr(
        backbone, "run_in_chunks", lambda *a: used.append(a[3]) or run(*a)
    )
    results = []
    for chunk in ([], ["--chunk=17"]):
        assert main([str(car_checkpoint[0]), str(mesh), *chunk]) == 0
        results.append(pv.read(output).point_data["pressure"])
    assert set(used) == {17}
    np.testing.assert_allclose(*results, atol=0.01)
    assert main([str(car_checkpoint[0]), str(mesh), "--chunk=0"]) == 2
    assert "chunk_size" in capsys.readouterr().err


def test_the_mesh_itself_is_never_written_over(tmp_path, car_checkpoint, capsys):
    paths = [tmp_path / "car.vtp", tmp_path / "car.vtk"]
    for path in paths:
        save(body(), path)
    before = [path.read_bytes() for path in paths]
    for path in paths:
        assert main([str(car_checkpoint[0]), str(path)]) == 0
        assert main([str(car_checkpoint[0]), str(path), f"--output={path}"]) == 2
        assert "is the mesh itself" in capsys.readouterr().err
    assert [path.read_bytes() for path in paths] == before
    assert len(list(tmp_path.glob("car*_predicted.vtp"))) == 2


@pytest.mark.parametrize("scale", ["0", "nan", "-1", "inf"])
def test_a_scale_that_is_none(tmp_path, car_checkpoint, capsys, scale):
    mesh = save(body(), tmp_path / "car.vtp")
    assert main([str(car_checkpoint[0]), str(mesh), f"--scale={scale}"]) == 2
    assert f"error: --scale {float(scale)}: give" in capsys.readouterr().err


def test_provenance(tmp_path, car_checkpoint):
    mesh = save(body(), tmp_path / "car.ply")
    assert main([str(car_checkpoint[0]), str(mesh)]) == 0
    (note,) = pv.read(tmp_path / "car_ply_predicted.vtp").field_data["provenance"]
    assert note.startswith(
        "predicted by FLARE from checkpoint simulated_cars/last.ckpt"
    )


def test_wrong_files(tmp_path, car_checkpoint, capsys):
    path, _ = car_checkpoint
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


def test_a_checkpoint_without_names_has_one_field(tmp_path):
    path = tmp_path / "run" / "last.ckpt"
    save_checkpoint(path, fields=None)
    mesh = save(body(), tmp_path / "car.stl")
    assert main([str(path), str(mesh)]) == 0
    result = pv.read(tmp_path / "car_stl_predicted.vtp")
    assert "field" in result.point_data and "pressure" not in result.point_data


@pytest.mark.mesh_process
def test_a_mesh_of_faces_that_do_not_exist(tmp_path, car_checkpoint, capsys):
    mesh = tmp_path / "car.obj"
    mesh.write_text("v 0 0 0\nv 3 0 0\nv 0 1 0\nf 1 2 900000\n")
    assert main([str(car_checkpoint[0]), str(mesh), "--cells"]) == 2
    assert "its 3 vertices are 0 to 2" in capsys.readouterr().err


def test_a_folder(tmp_path, car_checkpoint, capsys):
    path, expected = car_checkpoint
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


def test_pictures(tmp_path, car_checkpoint, capfd):
    mesh = body()
    mesh.point_data["pressure"] = mesh.points[:, 0]
    name = r'a $\x$ "ü" <b>&c'  # Matplotlib knows no formula `$\x$`
    path = save(mesh, tmp_path / f"{name}.vtp")
    assert main([str(car_checkpoint[0]), str(path), "--png", "--html"]) == 0
    page = (tmp_path / f"{name}_vtp_predicted_pressure.html").read_text("utf-8")
    assert "prediction" in page and "trained on" in page
    assert f"<h1>{html.escape(name)}.vtp: pressure</h1>" in page
    picture = pv.read(tmp_path / f"{name}_vtp_predicted_pressure.png")
    assert np.ptp(picture.active_scalars.astype(int)) > 50
    assert capfd.readouterr().err == ""  # no noise of VTK


@pytest.mark.slow
def test_command_line(tmp_path, car_checkpoint):
    mesh = save(body(1000.0), tmp_path / "car.stl")
    command = [sys.executable, str(SCRIPT), str(car_checkpoint[0]), str(mesh)]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "--scale 0.001" in refused.stderr
    assert "Traceback" not in refused.stderr
    done = subprocess.run([*command, "--scale", "1e-3"], capture_output=True, text=True)
    assert done.returncode == 0
    assert pv.read(tmp_path / "car_stl_predicted.vtp").n_points == body().n_points
