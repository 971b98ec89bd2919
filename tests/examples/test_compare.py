"""The comparison's command line, on a tiny benchmark."""

import json
import shlex
from pathlib import Path

import pytest

from tests.examples.loading import load_example
from torch_geometric_flare.experiments import compare
from torch_geometric_flare.experiments.isolated_run import recorded_run

TINY = "--dataset=tests.experiments.channels:CHANNEL"


@pytest.fixture
def example(monkeypatch, tmp_path):
    def run_here(config):
        folder = Path(config.folder)
        folder.mkdir(parents=True)
        recorded_run(config)
        return json.loads((folder / "run.json").read_text())

    # A new process would import torch and Lightning for each run.
    monkeypatch.setattr(compare, "isolated_run", run_here)
    monkeypatch.chdir(tmp_path)
    return load_example("compare")


def test_compares_and_carries_on(example, tmp_path, capsys):
    options = [TINY, "--models=lno,flare", "--num-train=2", "--num-test=1"]
    options += ["--epochs=1", "--device=cpu", "--seeds=1"]
    example.main(options)
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("compare-channel-simulated-")
    output = capsys.readouterr().out
    assert f"--resume={run}\n" in output and "| LNO |" in output
    rows = json.loads((run / "results.json").read_text())["rows"]
    assert [row["model"] for row in rows[:2]] == ["LNO", "FLARE"]
    assert [row["steps"] for row in rows[:2]] == [1, 1]
    for again in ([*options, f"--resume={run}"], [f"--resume={run}"]):
        example.main(again)
        assert capsys.readouterr().out.count("finished before") == 2


def test_resumes_what_was_killed_before_the_first_run(
    example, tmp_path, capsys, monkeypatch
):
    def kill(*_):
        raise KeyboardInterrupt

    options = [TINY, "--models=lno", "--num-train=2", "--num-test=1"]
    options += ["--epochs=1", "--device=cpu", "--seeds=1"]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(compare, "settle", kill)
        example.main(options)
    _, line = capsys.readouterr().out.splitlines()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    example.main(shlex.split(line)[2:])
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "LNO-seed0" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([TINY, "--models=Flair"], "models that have it: FLARE, LNO, Transolver"),
        (["--dataset=cheese"], "expected package.module:NAME"),
        ([TINY, "--resume=runs/none"], "is not a folder: look in runs"),
        ([TINY, "--epochs=1", "--seconds=5"], "give only one"),
        ([TINY, "--num-test=0"], "num_test must be at least 1"),
    ],
)
def test_says_what_the_user_can_mend(example, tmp_path, capsys, wrong, message):
    with pytest.raises(SystemExit) as caught:
        example.main(wrong)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
