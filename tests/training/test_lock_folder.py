import errno
import os
import signal
import subprocess
import sys
import textwrap
from contextlib import nullcontext
from pathlib import Path

import pytest
from filelock import FileLock

from torch_geometric_flare.training import SurrogateDataModule, fit
from torch_geometric_flare.training.run_folder import lock_folder

IN_USE = "folder='{}'"


def test_a_folder_is_held_by_one(tmp_path):
    folder = tmp_path / "run"
    with lock_folder(folder):
        with (
            pytest.raises(ValueError, match=IN_USE.format(folder)),
            lock_folder(str(folder)),
        ):
            pass
        with lock_folder(tmp_path / "other"):
            pass
    assert list(folder.iterdir()) == []
    with pytest.raises(InterruptedError), lock_folder(folder):
        raise InterruptedError
    with lock_folder(folder):
        pass


@pytest.mark.parametrize("number, locks", [(errno.ENOLCK, False), (errno.EACCES, True)])
def test_a_file_system_without_locks(tmp_path, monkeypatch, number, locks):
    def refuse(lock, **options):
        raise OSError(number, "no locks")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    expected = pytest.raises(OSError, match="no locks") if locks else nullcontext()
    with expected, lock_folder(tmp_path):
        pass


ALONE = """
import os, sys, time
from torch_geometric_flare.training.run_folder import lock_folder
"""

HOLD = """
with lock_folder(sys.argv[1]):
    if os.fork() == 0:  # as a worker that loads data
        print(os.getpid(), flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_held_is_free(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", ALONE + HOLD, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    worker = int(process.stdout.readline())
    try:
        with (
            pytest.raises(ValueError, match=IN_USE.format(tmp_path)),
            lock_folder(tmp_path),
        ):
            pass
        process.kill()
        process.wait()
        os.kill(worker, 0)  # The worker is still there.
        assert (tmp_path / ".lock").exists()
        with lock_folder(tmp_path):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)
        process.stdout.close()


TAKE = """
print("ready", flush=True)
sys.stdin.readline()
taken = 0
while taken < 20:
    try:
        with lock_folder(sys.argv[1]):
            with open(sys.argv[1] + "/held", "x"):
                pass
            taken += 1
            os.unlink(sys.argv[1] + "/held")
    except ValueError:
        time.sleep(0)
"""


@pytest.mark.slow
def test_processes_that_take_turns_never_hold_it_together(tmp_path):
    """Each makes a file that must not exist; the file of the lock comes and goes."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ALONE + TAKE, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 3
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors


TRAIN = """
import sys, time
sys.path.insert(0, {tests!r})
import conftest, test_fit
from lightning.pytorch import Callback
class Slow(Callback):
    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == 2:
            print("training", flush=True)
            sys.stdin.readline()
test_fit.run(
    conftest.make_module, conftest.make_samples, {folder!r}, callbacks=[Slow()]
)
"""


@pytest.mark.slow
def test_a_running_training_keeps_its_folder(module, samples, tmp_path):
    folder = tmp_path / "run"
    script = TRAIN.format(tests=str(Path(__file__).parent), folder=str(folder))
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "training\n"

    def run(**arguments):
        data = SurrogateDataModule(samples(7, 0), batch_size=2)
        arguments |= {"accelerator": "cpu", "progress": False}
        return fit(module(), data, folder, **arguments)

    before = (folder / "last.ckpt").read_bytes()
    for resume in (False, True):
        with pytest.raises(ValueError, match=IN_USE.format(folder)):
            run(resume=resume)
    assert (folder / "last.ckpt").read_bytes() == before
    process.communicate("go on\n", timeout=60)
    assert process.returncode == 0
    assert sorted(path.name for path in folder.iterdir()) == ["last.ckpt", "metrics"]
    with pytest.raises(FileExistsError, match="resume=True"):
        run()


TOGETHER = """
import sys
sys.path.insert(0, {tests!r})
import conftest
from torch_geometric_flare.training import SurrogateDataModule, fit, run_folder
data = SurrogateDataModule(conftest.make_samples(4, 0), batch_size=2)
fit(
    conftest.make_module(epochs=1), data, run_folder({prefix!r}),
    accelerator="cpu", devices=2, strategy="ddp", progress=False,
)
"""


@pytest.mark.slow
def test_processes_that_lightning_starts_share_the_folder(tmp_path):
    prefix = str(tmp_path / "runs" / "car")
    script = tmp_path / "script.py"
    script.write_text(TOGETHER.format(tests=str(Path(__file__).parent), prefix=prefix))
    result = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["last.ckpt", "metrics"]
