import contextlib
import csv
import io
import json
import re
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from torch_geometric_flare.experiments import (
    ComparisonConfig,
    RunConfig,
    Selection,
    compare_models,
    run_benchmark,
)
from torch_geometric_flare.experiments import compare as module
from torch_geometric_flare.experiments.isolated_run import isolated_run, recorded_run
from torch_geometric_flare.training import show_log

REFERENCE = "tests.experiments.channels:CHANNEL"


@pytest.fixture
def config(tmp_path):
    root = str(tmp_path / "data")
    return RunConfig(problem=REFERENCE, selection=Selection(root=root), device="cpu")


def compare(run, models, folder, seeds=3):
    run = replace(run, folder=str(folder))
    with show_log():
        return compare_models(ComparisonConfig(run=run, models=models, seeds=seeds))


@pytest.fixture
def jobs(monkeypatch):
    """The jobs that were run, in this process, which costs no imports."""
    done = []

    def run_here(run):
        done.append((run.model, run.seed))
        folder = Path(run.folder)
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.redirect_stdout(io.StringIO()):
            recorded_run(run)
        return json.loads((folder / "run.json").read_text())

    monkeypatch.setattr(module, "isolated_run", run_here)
    return done


@pytest.fixture
def untrained(monkeypatch):
    """The jobs whose records were made up."""
    done = []

    def make_up(run):
        done.append((run.model, run.seed))
        record = {
            "model": run.model,
            "seed": run.seed,
            "data": run.selection.data,
            "relative_l2": 0.25 + run.seed,
            "relative_l2_of_training_mean": 0.5,
            "relative_l2_of_nearest_training_sample": 0.75,
            "parameters": 10,
            "steps": 4,
            "training_seconds": 2.0,
            "seconds_per_step": 0.5,
            "peak_memory_mib": 100.0 + run.seed,
            "points_per_second": 1e3,
            "seconds": 2.0,
            "versions": {"torch": "9.9"},
            "machine": "an abacus",
        }
        folder = Path(run.folder)
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps(record))
        return record

    monkeypatch.setattr(module, "isolated_run", make_up)
    return done


@pytest.mark.usefixtures("without_pictures")
def test_results_are_those_of_run_benchmark_and_in_all_files(
    config, jobs, tmp_path, capsys
):
    folder = tmp_path / "run"
    rows = compare(config, ["flare", "LNO"], folder, seeds=2)
    output = capsys.readouterr().out
    assert jobs == [("FLARE", 0), ("FLARE", 1), ("LNO", 0), ("LNO", 1)]
    progress = [line for line in output.splitlines() if line.startswith("[")]
    assert len(progress) == 4 and progress[1].startswith("[2/4] FLARE seed 1: rel")
    alone = [
        run_benchmark(
            replace(
                config, model="LNO", folder=str(tmp_path / f"alone{seed}"), seed=seed
            )
        )
        for seed in range(2)
    ]
    errors = [one["relative_l2"] for one in alone]
    assert [row.model for row in rows[:2]] == ["FLARE", "LNO"]
    lno = rows[1]
    assert lno.relative_l2 == statistics.fmean(errors)
    assert lno.relative_l2_deviation == statistics.stdev(errors) > 0
    assert lno.parameters == alone[0]["parameters"] != rows[0].parameters
    assert lno.steps == 6 and lno.seconds_per_step > 0 and lno.runs == 2
    assert lno.peak_memory_mib > 100 and lno.points_per_second > 0
    nearest = rows[3]
    assert nearest.relative_l2 == alone[0]["relative_l2_of_nearest_training_sample"]

    stored = json.loads((folder / "results.json").read_text())
    with (folder / "results.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(stored["rows"]) == 4
    for line, row in zip(lines, stored["rows"], strict=True):
        assert line == {
            name: "" if value is None else str(value) for name, value in row.items()
        }
    assert {"torch", "lightning", "torch_geometric_flare"} <= set(
        stored["runs"][0]["versions"]
    )
    assert stored["runs"][0]["machine"] in (folder / "report.md").read_text()


def test_the_report_needs_no_other_file_and_says_that_data_are_simulated(
    config, jobs, tmp_path
):
    folder = tmp_path / "run"
    compare(replace(config, epochs=1), ["FLARE"], folder, seeds=1)
    page = (folder / "report.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert len(sources) == 2  # the plot and one picture
    assert all(source.startswith("data:image/png;base64,iVBOR") for source in sources)
    text = re.sub(r"base64,[^\"]+", "", page)
    assert "http" not in text
    hashes = json.loads((folder / "settings.json").read_text())
    for shown in (text, (folder / "report.md").read_text()):
        assert "channel: simulated channels" in shown
        assert hashes["train_sha256"] in shown and hashes["test_sha256"] in shown
        assert "Published" not in shown and "±" not in shown.split("Relative L2:")[0]


def test_finished_runs_are_read_and_settings_must_agree(
    config, untrained, tmp_path, capsys
):
    jobs = untrained
    folder = tmp_path / "run"
    first = compare(config, ["FLARE"], folder, seeds=1)
    jobs.clear()
    again = compare(config, ["FLARE", "LNO"], folder, seeds=1)
    assert jobs == [("LNO", 0)]
    assert again[0] == first[0]
    assert "0.2500, 4 steps of 0.5000 s, 2 s in all, finished before" in (
        capsys.readouterr().out
    )
    jobs.clear()
    for changed in (
        replace(config, epochs=5),
        replace(config, selection=replace(config.selection, num_train=4)),
    ):
        with pytest.raises(ValueError, match="holds another comparison"):
            compare(changed, ["FLARE"], folder, seeds=1)
    assert jobs == []


@pytest.mark.usefixtures("without_pictures")
def test_a_model_that_fails_is_a_line_of_the_table(config, jobs, tmp_path, capsys):
    folder = tmp_path / "run"
    rows = compare(config, ["Transolver", "LNO"], folder, seeds=1)
    assert "Transolver seed 0: failed: " in capsys.readouterr().out
    assert rows[0].model == "Transolver" and rows[0].relative_l2 is None
    assert "35" in rows[0].error and "Transolver-seed0/log.txt" in rows[0].error
    assert rows[1].model == "LNO" and rows[1].runs == 1
    for name in ("report.md", "report.html"):
        assert "failed: " in (folder / name).read_text()
    jobs.clear()
    compare(config, ["Transolver", "LNO"], folder, seeds=1)
    assert jobs == [("Transolver", 0)]  # which is tried again


def test_published_figures_stand_beside_whole_official_runs_alone(
    config, untrained, tmp_path
):
    def published(name, **changes):
        rows = compare(replace(config, **changes), ["FLARE"], tmp_path / name, seeds=1)
        shown = (tmp_path / name / "report.md").read_text()
        both = "0.0123 (arXiv:0000.00000); 0.0246 (arXiv:1111.11111)" in shown
        assert (
            ("Published" in shown)
            == both
            == (rows[0].published_relative_l2 is not None)
        )
        return rows[0].published_relative_l2

    official = replace(config.selection, data="official")
    whole = {"selection": official, "recipe": "paper"}
    assert published("whole", **whole) == 0.0123
    assert "simulated" not in (tmp_path / "whole" / "report.md").read_text()
    assert published("simulated", recipe="paper") is None
    assert published("quick", selection=official) is None
    assert published("short", **whole, epochs=1) is None
    assert published("timed", **whole, seconds=0.01) is None
    part = {**whole, "selection": replace(official, num_train=4)}
    assert published("part", **part) is None


@pytest.mark.usefixtures("without_pictures")
def test_equal_seconds_give_a_whole_schedule_that_a_resumed_run_keeps(
    config, jobs, tmp_path
):
    timed = replace(config, seconds=2.0)
    folder = tmp_path / "run"
    (row, *_) = compare(timed, ["FLARE"], folder, seeds=1)
    run = folder / "FLARE-seed0"
    steps = json.loads((run / "time_budget.json").read_text())["steps"]
    assert row.steps == steps > 6
    # Killed between the last step and the record.
    (run / "run.json").unlink()
    (again, *_) = compare(timed, ["FLARE"], folder, seeds=1)
    assert again.steps == steps and again.relative_l2 == row.relative_l2
    assert again.seconds_per_step == row.seconds_per_step
    assert again.training_seconds == row.training_seconds > 0


def test_wrong_arguments(config, jobs, tmp_path):
    folder = tmp_path / "run"
    for models, seeds, message in (
        (["FLARE", "Flair"], 1, "for the model 'Flair'; models that have it: FLARE"),
        (["FLARE"], 0, "seeds must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            compare(config, models, folder, seeds=seeds)
    with pytest.raises(ValueError, match=r"expected package.module:NAME"):
        compare(replace(config, problem=f"{REFERENCE}S"), [], folder)
    with pytest.raises(ValueError, match=r"epochs=1 and seconds=2: give only one"):
        replace(config, epochs=1, seconds=2)
    with pytest.raises(ValueError, match=r"seconds must be positive, got -1"):
        replace(config, seconds=-1)
    assert not folder.exists()


@pytest.mark.slow  # A new process imports torch and Lightning.
def test_a_run_has_a_process_of_its_own(config, tmp_path, capfd):
    # The parent is larger than the child: its memory must not count.
    ballast = bytearray(2**31)
    ballast[:: 2**12] = b"x" * 2**19
    rows = compare(config, ["FLARE"], tmp_path / "run", seeds=1)
    assert rows[0].runs == 1 and 100 < rows[0].peak_memory_mib < 2048
    captured = capfd.readouterr()
    assert "GPU available" not in captured.out + captured.err
    log = tmp_path / "run" / "FLARE-seed0" / "log.txt"
    assert "simulated channels to train on" in log.read_text()
    alone = run_benchmark(replace(config, folder=str(tmp_path / "alone")))
    assert rows[0].relative_l2 == pytest.approx(alone["relative_l2"], rel=1e-5)


@pytest.mark.slow
def test_a_process_that_is_killed_is_a_failure(config, tmp_path):
    run = replace(config, problem="killed:NOW", folder=str(tmp_path / "run"))
    (tmp_path / "killed.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        record = isolated_run(run)
    assert record["error"].startswith("the process ended with exit code -9")
