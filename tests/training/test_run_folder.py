import re

import pytest

from torch_geometric_flare.training import run_folder


def test_a_new_folder_has_date_and_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = run_folder("runs/simulated")
    assert re.fullmatch(r"runs/simulated-\d{6}-\d{6}", folder.as_posix())
    assert list(folder.iterdir()) == []


def test_only_a_folder_with_a_checkpoint_is_resumed(tmp_path):
    with pytest.raises(FileNotFoundError, match="typo' is no folder"):
        run_folder("runs/car", tmp_path / "typo")
    with pytest.raises(FileNotFoundError, match="start again without resuming"):
        run_folder("runs/car", tmp_path)
    (tmp_path / "last.ckpt").touch()
    assert run_folder("runs/car", str(tmp_path)) == tmp_path
