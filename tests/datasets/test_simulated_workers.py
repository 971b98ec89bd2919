import os
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from tests.datasets.simulators import Toy, contents, make
from torch_geometric_flare.datasets import SimulatedDataset
from torch_geometric_flare.datasets.simulator import sample_rng
from torch_geometric_flare.simulation import (
    Notchback,
    NotConverged,
)


@dataclass(frozen=True)
class Threads(Toy):
    """Names its process, which must have been told to use one thread."""

    name: ClassVar[str] = "threads"

    def sample(self, rng):
        if os.environ.get("OMP_NUM_THREADS") != "1":
            raise ValueError("not a single thread")
        return {"pos": np.zeros((1, 2)), "total": np.array([os.getpid()])}


@dataclass(frozen=True)
class Fails(Toy):
    name: ClassVar[str] = "fails"

    def sample(self, rng):
        raise FloatingPointError("the solver diverged")


@dataclass(frozen=True)
class Dies(Toy):
    name: ClassVar[str] = "dies"

    def sample(self, rng):
        os._exit(1)


@pytest.mark.slow
def test_workers_do_not_matter(tmp_path):
    simulator = Notchback(num_points=50, panels_along=8, panels_around=4)
    here = SimulatedDataset(tmp_path / "a", simulator, 3, num_workers=0)
    there = SimulatedDataset(tmp_path / "b", simulator, 3, num_workers=2)
    assert contents(here) == contents(there)
    assert sorted(contents(here)) == ["000000.npz", "000001.npz", "000002.npz"]
    assert here.folder.name == there.folder.name


@pytest.mark.slow
def test_workers_use_one_thread_each(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    dataset = make(tmp_path, Threads(), num_workers=1)
    assert os.getpid() not in {int(data.y) for data in dataset}
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert "MKL_NUM_THREADS" not in os.environ


@pytest.mark.slow
def test_a_failure_in_a_worker_names_the_sample(tmp_path):
    message = "fails failed on sample 0 of split 'test' with seed 5.*solver diverged"
    with pytest.raises(RuntimeError, match=message):
        make(tmp_path, Fails(), 1, split="test", seed=5, num_workers=1)


@pytest.mark.slow
def test_a_dying_worker(tmp_path):
    with pytest.raises(RuntimeError, match="a process that ran dies died.*__main__"):
        make(tmp_path, Dies(), 1, num_workers=1)


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="this system binds no process to cores"
)
def test_default_workers_are_the_cores_allowed(tmp_path, noise, monkeypatch):
    monkeypatch.undo()  # the cores of this process, not none
    make(tmp_path, noise, 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 4})
    dataset = make(tmp_path, noise, 1, num_workers=None)
    assert dataset.num_workers == len(os.sched_getaffinity(0))


def script(tmp_path, text):
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(text))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, path],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_script_without_a_main_guard(tmp_path):
    process = script(
        tmp_path,
        """
        from torch_geometric_flare.datasets import SimulatedDataset, simulated
        from torch_geometric_flare.simulation import Notchback

        SimulatedDataset("data", Notchback(50, 8, 4), 2, num_workers=2)
        """,
    )
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    last = errors.strip().splitlines()[-1]
    assert last.startswith("RuntimeError: a process that ran simulated_notchback died.")
    assert not list(tmp_path.rglob("*.npz"))


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills by signal")
def test_workers_end_with_a_killed_script(tmp_path):
    process = script(
        tmp_path,
        """
        import os, time
        from dataclasses import dataclass
        from torch_geometric_flare.datasets import SimulatedDataset, simulated
        from torch_geometric_flare.fields import Field

        @dataclass(frozen=True)
        class Sleeps:
            name = "sleeps"
            fields = (Field("total"),)
            features = ()
            coordinate_bounds = None

            def sample(self, rng):
                open(f"worker-{os.getpid()}", "w").close()
                time.sleep(600)

        if __name__ == "__main__":
            SimulatedDataset("data", Sleeps(), 2, num_workers=1)
        """,
    )
    found = wait(lambda: list(tmp_path.glob("worker-*")))
    process.kill()
    process.communicate()
    worker = int(found[0].name.split("-")[1])
    assert wait(lambda: not running(worker))


def wait(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.1)
    raise TimeoutError


def running(pid):
    # An orphan that nobody has reaped is a zombie.
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True
    ).stdout.strip()
    return bool(state) and not state.startswith("Z")


@dataclass(frozen=True)
class Stubborn(Toy):
    """Converges where its draw is above a limit."""

    limit: float

    name: ClassVar[str] = "simulated_stubborn"

    def sample(self, rng):
        value = rng.random()
        if value < self.limit:
            raise NotConverged("the residual stalled")
        return {"pos": np.full((1, 2), value), "total": np.array([value])}


def first_that_converges(limit, index):
    for attempt in range(10):
        value = sample_rng(0, "train", index, attempt).random()
        if value >= limit:
            return attempt, value
    raise AssertionError("choose another limit")


def test_solutions_that_did_not_converge_are_drawn_again(tmp_path, caplog):
    with caplog.at_level("WARNING"):
        dataset = make(tmp_path, Stubborn(0.6), 6)
    expected = [first_that_converges(0.6, index) for index in range(6)]
    assert [float(data.y) for data in dataset] == [
        np.float32(value) for _, value in expected
    ]
    attempts = [attempt for attempt, _ in expected]
    assert min(attempts) == 0 < max(attempts)
    (record,) = caplog.records
    assert record.getMessage() == (
        f"simulated data, simulated_stubborn, train: {sum(attempts)} solutions did not "
        "converge and were drawn again"
    )
    for index, path in enumerate(sorted(Path(dataset.raw_dir).glob("*.npz"))):
        with np.load(path) as file:
            assert file.get("redraws", 0) == attempts[index]
            assert ("redraws" in file) == (attempts[index] > 0)
    assert set(dataset[attempts.index(max(attempts))].keys()) == {"x", "pos", "y"}


def test_redraws_do_not_depend_on_the_workers(tmp_path, caplog):
    here = SimulatedDataset(tmp_path / "a", Stubborn(0.6), 6, num_workers=0)
    there = SimulatedDataset(tmp_path / "b", Stubborn(0.6), 6, num_workers=1)
    assert contents(here) == contents(there)
    first, second = (record.getMessage() for record in caplog.records)
    assert first == second


def test_one_redraw_and_none(tmp_path, caplog):
    values = [sample_rng(0, "train", index).random() for index in range(4)]
    make(tmp_path, Stubborn(min(values)), 4)
    assert not caplog.records
    limit = np.nextafter(min(values), 1.0)
    assert first_that_converges(limit, int(np.argmin(values)))[0] == 1
    make(tmp_path, Stubborn(float(limit)), 4)
    assert "train: 1 solution did not converge and was drawn" in caplog.text


def test_no_draw_converges(tmp_path):
    message = "found no solution for sample 0 .*'train' with seed 0 in 10 draws .*mesh"
    with pytest.raises(RuntimeError, match=message):
        make(tmp_path, Stubborn(2.0), 1)
    assert not list(tmp_path.rglob("*.npz"))
