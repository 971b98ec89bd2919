import re
import subprocess
import sys

import pytest
from lightning.pytorch.utilities import rank_zero_only

from torch_geometric_flare.training import run_folder
from torch_geometric_flare.training.run_folder import drop_unused


def test_a_new_folder_has_date_and_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = run_folder("runs/simulated")
    assert re.fullmatch(r"runs/simulated-\d{6}-\d{6}", folder.as_posix())
    assert list(folder.iterdir()) == []


def test_only_a_folder_with_a_checkpoint_is_resumed(tmp_path):
    with pytest.raises(FileNotFoundError, match="typo' is not a folder"):
        run_folder("runs/car", tmp_path / "typo")
    with pytest.raises(FileNotFoundError, match="start again without resuming"):
        run_folder("runs/car", tmp_path)
    (tmp_path / "last.ckpt").touch()
    assert run_folder("runs/car", str(tmp_path)) == tmp_path


CLAIM = """
import sys, time
from torch_geometric_flare.training import run_folder
print("ready", flush=True)
sys.stdin.readline()
print(*[run_folder(sys.argv[1]) for _ in range(20)], sep="\\n")
"""


@pytest.mark.slow
def test_no_two_runs_of_the_same_second_share_a_folder(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(tmp_path / "runs" / "car")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 2
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    folders = sum((p.communicate()[0].split("\n")[:-1] for p in processes), [])
    assert len(folders) == len(set(folders)) == 40
    made = {str(path) for path in (tmp_path / "runs").iterdir()}
    assert made == set(folders)
    assert any(re.fullmatch(r".*/car-\d{6}-\d{6}-2", folder) for folder in folders)


def test_only_the_first_process_of_a_training_makes_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    run_folder(tmp_path / "car")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(rank_zero_only, "rank", 0)
    folder = run_folder(tmp_path / "car")
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_with_options_alone_can_be_resumed_or_dropped(tmp_path):
    folder = run_folder(tmp_path / "car")
    (folder / "config.yaml").touch()
    assert run_folder("other", folder) == folder
    (folder / "other").touch()
    with pytest.raises(OSError):
        drop_unused(folder)
    (folder / "other").unlink()
    (folder / "config.yaml").touch()
    drop_unused(folder)
    assert not folder.exists()
