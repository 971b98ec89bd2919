"""The command `tgflare check`, and `MeshFolder(check=True)`."""

import logging

import numpy as np
import pytest
import pyvista as pv

from torch_geometric_flare.cli import main
from torch_geometric_flare.datasets import MeshFolder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Twelve balls with a field that is simulated by a formula."""
    monkeypatch.setattr(
        "torch_geometric_flare.mesh_io.read_mesh", lambda path, **_: pv.read(path)
    )
    folder = tmp_path / "balls"
    folder.mkdir()
    for number in range(12):
        ball = pv.Sphere(
            radius=0.5 + number / 30, theta_resolution=12, phi_resolution=12
        )
        ball.clear_data()
        ball.cell_data["pressure"] = 100 * ball.cell_centers().points[:, 0]
        ball.save(folder / f"ball_{number:02}.vtp")
    return folder


def change(path, **scales):
    ball = pv.read(path)
    ball.points *= scales.get("points", 1.0)
    ball.cell_data["pressure"] *= scales.get("pressure", 1.0)
    ball.save(path)


def state(folder):
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_exit_status_table_and_page(folder, tmp_path, capsys):
    before = state(folder)
    assert main(["check", str(folder)]) == 0
    output = capsys.readouterr().out
    assert "12 meshes" in output and "0 errors, 0 warnings" in output
    assert state(folder) == before and list(tmp_path.iterdir()) == [folder]
    ball = pv.read(folder / "ball_03.vtp")
    ball.cell_data["pressure"][:5] = np.nan
    ball.save(folder / "ball_03.vtp")
    change(folder / "ball_07.vtp", points=1000.0)
    before, page = state(folder), tmp_path / "page.html"
    assert main(["check", str(folder), f"--html={page}"]) == 1
    output = capsys.readouterr().out
    assert "2 errors, 0 warnings" in output
    assert "ball_03.vtp" in output and "millimeters" in output
    assert state(folder) == before
    text = page.read_text(encoding="utf-8")
    assert "ball_07.vtp" in text and "compute the field again" in text
    assert text.count("data:image/png;base64,") == 1  # of the places with nan
    assert "http" not in text.replace("data:image", "")
    assert main(["check", str(folder), "--ignore=nan,units"]) == 0


def test_folders_are_splits(folder, tmp_path, capsys):
    other = tmp_path / "test"
    other.mkdir()
    (folder / "ball_03.vtp").rename(other / "ball_03.vtp")
    assert main(["check", str(folder), str(other)]) == 0
    assert "11 balls, 1 test" in capsys.readouterr().out
    (other / "ball_05.vtp").write_bytes((folder / "ball_05.vtp").read_bytes())
    assert main(["check", str(folder), str(other)]) == 1
    assert "test/ball_05.vtp" in capsys.readouterr().out


def test_forces_of_a_table(folder, tmp_path, capsys):
    table = tmp_path / "forces.csv"
    table.write_text("mesh,drag\nball_03.vtp,1000\n")
    flow = ["--speed=10", "--area=1", f"--forces={table}"]
    assert main(["check", str(folder), *flow]) == 1
    assert "1000" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main(["check", str(folder), "--speed=10"])
    assert "area" in capsys.readouterr().err


def test_what_the_user_can_mend(folder, tmp_path, capsys):
    for arguments, named in (
        ([str(tmp_path / "none")], "none"),
        ([str(folder), "--ignore=unit"], "unit"),
        ([str(folder), "--location=face"], "face"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(["check", *arguments])
        (line,) = capsys.readouterr().err.splitlines()
        assert named in line


def test_a_folder_checks_itself(folder, tmp_path, caplog):
    options = {"fields": ["pressure"], "cache": tmp_path / "cache"}
    assert len(MeshFolder(folder, check=True, **options)) > 5
    ball = pv.read(folder / "ball_02.vtp").flip_faces()
    ball.save(folder / "ball_02.vtp")
    with caplog.at_level(logging.WARNING):
        MeshFolder(folder, check=True, **options)
    assert "ball_02.vtp, winding" in caplog.text
    change(folder / "ball_07.vtp", pressure=1000.0)
    with pytest.raises(ValueError, match=r"ball_07\.vtp"):
        MeshFolder(folder, check=True, **options)
    assert len(MeshFolder(folder, **options)) > 5
