"""All combinations of some options: the command `tgflare ablate`."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from torch_geometric_flare.cli import main
from torch_geometric_flare.experiments import (
    AblationConfig,
    Row,
    RunConfig,
    Selection,
    ablate,
    plot_ablation,
    run_benchmark,
)
from torch_geometric_flare.experiments import compare as module
from torch_geometric_flare.experiments.config import CONFIG
from torch_geometric_flare.experiments.isolated_run import recorded_run

REFERENCE = "tests.experiments.channels:CHANNEL"
TINY = [f"--problem={REFERENCE}", "--num-train=2", "--num-test=1", "--device=cpu"]


@pytest.fixture(autouse=True)
def in_a_new_folder(monkeypatch, tmp_path, without_pictures):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def jobs(monkeypatch):
    """The runs that were made, in this process, which costs no imports."""
    done = []

    def run_here(run):
        done.append((run.changes, run.seed))
        folder = Path(run.folder)
        folder.mkdir(parents=True, exist_ok=True)
        recorded_run(run)
        return json.loads((folder / "run.json").read_text())

    monkeypatch.setattr(module, "isolated_run", run_here)
    return done


def error(*arguments):
    with pytest.raises(SystemExit, match="2"):
        main(["ablate", *TINY, *arguments])


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_cell_is_a_run_of_its_recipe_with_these_options(jobs, tmp_path, capsys):
    over = ["--over=num_latents=3", "--over", "shared_latents=true,false"]
    given = ["ablate", *TINY, "--steps=2", "--seeds=2", "--folder=out", *over]
    assert main(given) == 0
    assert "[4/4] num_latents=3,shared_latents=False seed 1: rel" in (
        capsys.readouterr().out
    )
    cells = [{"num_latents": 3, "shared_latents": shared} for shared in (True, False)]
    assert jobs == [(cell, seed) for cell in cells for seed in range(2)]
    lines = read_csv(tmp_path / "out" / "ablation.csv")
    alone = run_benchmark(
        RunConfig(
            problem=REFERENCE,
            selection=Selection(num_train=2, num_test=1),
            steps=2,
            seed=1,
            device="cpu",
            folder="alone",
            changes={"num_latents": 3, "shared_latents": True},
        )
    )
    line = lines[1]
    assert (line["num_latents"], line["shared_latents"], line["seed"]) == (
        "3",
        "True",
        "1",
    )
    assert line["relative_l2"] == str(alone["relative_l2"])
    assert len({line["parameters"] for line in lines}) == 2
    assert {line["steps"] for line in lines} == {"2"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Error over num_latents and shared_latents" in page
    text = re.sub(r"base64,[^\"]+", "", page)
    assert "http" not in text and "simulated channels" in text
    assert (tmp_path / "out" / "ablation.png").exists()
    # What `tgflare train` makes of the options of one cell.
    config = tmp_path / "out" / "num_latents=3,shared_latents=True-seed1" / CONFIG
    assert RunConfig.load(config).changes == cells[0]


def test_resuming_makes_what_is_missing_and_values_may_be_added(jobs, capsys):
    given = ["ablate", *TINY, "--steps=1", "--seeds=1"]
    assert main([*given, "--folder=out", "--over=num_latents=2"]) == 0
    assert main(["ablate", "--resume=out", "--over=num_latents=2,4"]) == 0
    assert jobs == [({"num_latents": 2}, 0), ({"num_latents": 4}, 0)]
    assert "finished before" in capsys.readouterr().out
    config = AblationConfig.load(Path("out", CONFIG))
    assert config.axes == {"num_latents": [2, 4]}
    error("--folder=out", "--steps=2", "--over=num_latents=2", "--seeds=1")
    assert "holds another comparison" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["--over=num_heads=2"], ["num_heads", "heads", "latent_blocks", "optimizer"]),
        (["--over=epochs=2,3"], ["epochs"]),
        (["--over=num_latents=4,-1"], ["num_latents=-1", "num_latents is -1"]),
        (["--over=heads=2,3"], ["heads=3", "hidden_channels is 16"]),
        (["--over=optimizer=sgd"], ["'sgd'", "adamw", "muon"]),
        (["--over=batch_size=two"], ["batch_size", "two"]),
        (["--over=num_latents"], ["NAME=VALUE"]),
        (["--over=num_latents=2,,3"], ["NAME=VALUE"]),
        (["--over=a=1", "--over=b=1", "--over=c=1"], ["a=1 b=1 c=1"]),
        (["--over=heads=1", "--over=heads=2"], ["heads=1 heads=2"]),
        (["--over=heads=1", "--seeds=0"], ["seeds"]),
        (["--over=heads=1", "--changes=num_layers"], ["NAME=VALUE"]),
        ([], ["over"]),
    ],
)
def test_wrong_options_are_one_sentence(capsys, jobs, given, named):
    error("--steps=1", *given)
    *_, line = capsys.readouterr().err.splitlines()
    assert all(name in line for name in named), line
    assert jobs == [] and not any(Path("runs").glob("*"))


def row(name, error, deviation=None):
    return Row(model=name, relative_l2=error, relative_l2_deviation=deviation)


def test_figures():
    run = RunConfig(problem=REFERENCE)
    line = AblationConfig(run=run, over="act=gelu,relu,tanh")
    figure = plot_ablation(
        line,
        [row("act=tanh", 0.4, 0.1), row("act=relu", None), row("act=gelu", 0.2)],
        "",
    )
    (curve,) = figure.axes[0].containers[0].lines[:1]
    assert list(curve.get_xdata()) == [0, 2] and list(curve.get_ydata()) == [0.2, 0.4]
    both = AblationConfig(run=run, over="heads=1,2 num_latents=3,4,5")
    rows = [row(name, 0.1 * k, 0.01) for k, name in enumerate(both.cells, start=1)]
    rows[4] = replace(rows[4], relative_l2=None, relative_l2_deviation=None)
    axis = plot_ablation(both, rows[::-1], "simulated").axes[0]
    shown = axis.images[0].get_array()
    assert shown.shape == (2, 3) and shown[1, 2] == pytest.approx(0.6)
    assert shown.mask[1, 1]
    texts = {text.get_position(): text.get_text() for text in axis.texts}
    assert texts[1, 1] == "failed" and texts[2, 0] == "0.300\n± 0.010"
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("num_latents", "heads")


@pytest.mark.slow
def test_each_run_has_its_own_process():
    config = AblationConfig(
        run=RunConfig(
            problem=REFERENCE,
            selection=Selection(num_train=2, num_test=1),
            steps=1,
            device="cpu",
            folder="out",
        ),
        over=("latent_blocks=0,1",),
        seeds=1,
    )
    rows = ablate(config)
    assert [one.runs for one in rows[:2]] == [1, 1]
    assert rows[0].parameters < rows[1].parameters
