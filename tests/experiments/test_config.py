from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import pytest

from tests.experiments.channels import CHANNEL
from torch_geometric_flare.experiments import (
    DARCY,
    ComparisonConfig,
    RunConfig,
    Selection,
    find_benchmark,
    run_benchmark,
)
from torch_geometric_flare.experiments.options import parse
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.training import TrainerConfig

CHANGED = RunConfig(
    problem="darcy",
    model="LNO",
    recipe="paper",
    selection=Selection(
        data="official",
        root="elsewhere",
        num_points="1849",
        num_train=3,
        num_test=2,
        num_val=1,
        fields=("pressure", "speed"),
    ),
    seconds=1.5,
    optimizer="muon",
    init="paper",
    keep_best=True,
    patience=4,
    device="cpu",
    precision="bf16-mixed",
    seed=7,
    threads=2,
    logger="tensorboard",
    folder="runs/mine",
    progress=False,
)


@pytest.mark.parametrize(
    "config",
    [
        RunConfig(problem="pipe"),
        CHANGED,
        replace(CHANGED, seconds=None, steps=9),
        ComparisonConfig(run=RunConfig(problem="pipe"), models=("LNO", "FLARE")),
        ComparisonConfig(run=RunConfig(problem="pipe", epochs=2), seeds=1),
    ],
)
def test_a_file_gives_the_same_object(tmp_path, config):
    config.save(tmp_path / "config.yaml")
    assert type(config).load(tmp_path / "config.yaml") == config


def test_the_folder_may_begin_with_that_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    config = RunConfig(problem="pipe", folder="~/a run")
    assert Path(config.folder) == tmp_path / "a run"
    config.save("~/config.yaml")
    assert RunConfig.load(tmp_path / "config.yaml") == config


def test_every_field_is_an_option_with_a_help_text():
    parser = RunConfig.parser("Train.")
    nested = {entry.name for entry in fields(Selection)}
    own = {entry.name for entry in fields(RunConfig)} - {"selection"}
    texts = {action.dest: action.help for action in parser._actions}
    assert nested | own <= set(texts)
    assert all(texts[name] for name in nested | own)
    assert set(RunConfig(problem="pipe").to_options()) == nested | own


def test_the_command_line_wins_over_the_file(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("problem: darcy\nnum_points: 1849\nseed: 3\nkeep_best: true\n")
    arguments = [f"--config={path}", "--seed=5", "--num-val=2", "--fields=a,b"]
    config = RunConfig.from_options(parse(RunConfig.parser(""), arguments))
    selection = Selection(num_points="1849", num_val=2, fields=("a", "b"))
    assert config == RunConfig(
        problem="darcy", seed=5, keep_best=True, selection=selection
    )


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("problem: darcy\nnum_trian: 3\n", "num_trian"),
        ("problem: darcy\nseed: many\n", "--seed is many"),
        ("problem: darcy\noptimizer: sgd\n", "--optimizer is sgd.*adamw"),
        ("problem: darcy\ndata: real\n", "--data is real.*simulated"),
        ("seed: 3\n", "problem"),
        ("problem: [\n", "config.yaml"),
    ],
)
def test_errors_name_the_option(tmp_path, text, named):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=named) as caught:
        RunConfig.load(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.yaml"):
        RunConfig.load(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"epochs": 1, "seconds": 2}, "epochs=1 and seconds=2"),
        ({"steps": 1, "seconds": 2}, "seconds=2 and steps=1"),
        ({"seconds": -1}, "seconds.*-1"),
        ({"steps": 0}, "steps.*0"),
        ({"threads": 0}, "threads.*0"),
        ({"keep_best": True}, "keep_best.*num_val"),
        ({"patience": 2}, "patience.*num_val"),
    ],
)
def test_runs_that_make_no_sense(options, named):
    with pytest.raises(ValueError, match=named):
        RunConfig(problem="pipe", **options)


def test_problems_by_name():
    assert find_benchmark("darcy") is DARCY
    assert RunConfig(problem="darcy").benchmark is DARCY
    assert RunConfig(problem=CHANNEL).benchmark is CHANNEL
    assert find_benchmark("tests.experiments.channels:CHANNEL") is CHANNEL
    for name in ("dracy", "tests.experiments.channels:NONE", "builtins:len"):
        with pytest.raises(ValueError, match=name):
            find_benchmark(name)


@dataclass(frozen=True, kw_only=True)
class LargerConfig(RunConfig):
    learning_rate: float | None = field(default=None, metadata={"of": Recipe})
    deterministic: bool = field(default=False, metadata={"of": TrainerConfig})
    kv_layers: int | None = field(default=None, metadata={"of": "model"})


@pytest.mark.parametrize("given", [True, False])
def test_an_option_is_one_field(tmp_path, monkeypatch, given):
    """It reaches the file, the recipe, the trainer and the model."""
    taken = []

    def fit(module, data, folder, config, **_):
        taken.extend((module, config))
        raise KeyError

    monkeypatch.setattr("torch_geometric_flare.training.fit", fit)
    arguments = ["--problem=tests.experiments.channels:CHANNEL", f"--root={tmp_path}"]
    if given:
        arguments += ["--learning-rate=0.25", "--deterministic", "--kv-layers=1"]
    values = parse(LargerConfig.parser(""), arguments)
    config = LargerConfig.from_options({**values, "folder": str(tmp_path / "run")})
    with pytest.raises(KeyError):
        run_benchmark(config)
    (module, trainer), own = taken, CHANNEL.recipe("FLARE", "quick")
    assert trainer.deterministic == given
    rate = module.recipe.learning_rate
    assert rate == (0.25 if given else own.learning_rate)
    assert module.recipe.model.get("kv_layers") == (1 if given else None)
    stored = LargerConfig.load(tmp_path / "run" / "config.yaml")
    assert stored == replace(config, folder=None, problem=stored.problem)
