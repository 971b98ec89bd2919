"""A bar on a terminal, lines in a file."""

import itertools
import logging
import re
import sys
from types import SimpleNamespace

import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_flare import FLARE
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.training import (
    SurrogateDataModule,
    SurrogateModule,
    TrainerConfig,
    build_trainer,
    fit,
    quiet_lightning,
    show_log,
)
from torch_geometric_flare.training.callbacks import EpochBar, EpochLogger
from torch_geometric_flare.transforms import Normalizer


def parts(epochs=4):
    samples = []
    for _ in range(3):
        x = torch.rand(20, 3)
        samples.append(Data(x=x, pos=x, y=x[:, :1] + 1.0))
    sizes = {"hidden_channels": 8, "heads": 2, "num_latents": 4}
    recipe = Recipe(model_class=FLARE, model=sizes, epochs=epochs)
    model = recipe.build(in_channels=3, out_channels=1)
    normalizer = Normalizer.gaussian(data.y for data in samples)
    module = SurrogateModule(
        model, normalizer, Normalizer.identity(3), recipe, training_data="points"
    )
    return module, SurrogateDataModule(samples, samples[:1], batch_size=2)


@pytest.mark.parametrize(("pace", "epochs"), [(1, "14"), (11, "1234")])
def test_a_file_gets_a_line_now_and_then(pace, epochs, tmp_path, monkeypatch, capsys):
    """At most every ten seconds by a clock that `pace` seconds pass on each look."""
    module = "torch_geometric_flare.training.callbacks"
    clock = SimpleNamespace(monotonic=itertools.count(0, pace).__next__)
    monkeypatch.setattr(f"{module}.time", clock)
    fit(*parts(), tmp_path, accelerator="cpu")
    lines = capsys.readouterr().out.splitlines()
    lines = [line for line in lines if line.startswith("epoch")]
    heads = [line.partition(":")[0] for line in lines]
    assert heads == [f"epoch {n}/4" for n in epochs]
    for name in ("train_loss", "val_loss"):
        assert re.search(rf"{name} \d", lines[-1])


def test_a_log_that_shows_it_gets_the_line(tmp_path, caplog, capsys):
    with caplog.at_level(logging.INFO, "torch_geometric_flare"):
        fit(*parts(epochs=1), tmp_path, accelerator="cpu")
    assert [m[:10] for m in caplog.messages if m.startswith("epoch")] == ["epoch 1/1:"]
    assert "epoch 1/1" not in capsys.readouterr().out


def test_a_command_shows_each_line_once(tmp_path, capsys):
    with show_log():
        fit(*parts(epochs=1), tmp_path, accelerator="cpu")
    assert capsys.readouterr().out.count("epoch 1/1:") == 1


@pytest.mark.parametrize("progress", [True, False])
def test_a_terminal_has_a_bar(progress, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    config = TrainerConfig(accelerator="cpu", progress=progress)
    trainer = build_trainer(*parts(), tmp_path, config)
    kinds = [type(callback) for callback in trainer.callbacks]
    assert (EpochBar in kinds) is progress
    assert EpochLogger not in kinds


@pytest.mark.parametrize("every, validated", [(1, "12345"), (2, "24"), (3, "3")])
def test_a_line_has_errors_of_its_own_epoch_alone(every, validated, tmp_path, capsys):
    module, data = parts(epochs=5)
    config = TrainerConfig(accelerator="cpu", validate_every=every)
    trainer = build_trainer(module, data, tmp_path, config)
    (lines,) = (each for each in trainer.callbacks if isinstance(each, EpochLogger))
    lines.seconds = 0.0
    with quiet_lightning():
        trainer.fit(module, datamodule=data)
    out = [line for line in capsys.readouterr().out.splitlines() if "epoch" in line]
    assert "".join(line[6] for line in out if "val_loss" in line) == validated
    assert all("train_loss" in line for line in out)


def test_a_bar_has_errors_of_its_own_epoch_alone(tmp_path, monkeypatch):
    shown = {}

    class Bar(EpochBar):
        def get_metrics(self, trainer, module):
            found = super().get_metrics(trainer, module)
            shown.setdefault(trainer.current_epoch, set()).update(found)
            return found

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("torch_geometric_flare.training.trainer.EpochBar", Bar)
    fit(*parts(epochs=4), tmp_path, accelerator="cpu", validate_every=2)
    validated = [epoch for epoch, names in shown.items() if "val_loss" in names]
    assert validated == [1, 3]


@pytest.mark.parametrize("weight", [1, 2])
def test_a_line_has_each_number_once(weight, tmp_path, capsys):
    class Weighted(SurrogateModule):
        def loss(self, prediction, data):
            return weight * super().loss(prediction, data)

    module, data = parts(epochs=1)
    module.__class__ = Weighted
    fit(module, data, tmp_path, accelerator="cpu")
    (line,) = capsys.readouterr().out.splitlines()[-1:]
    assert "train_loss" in line and "val_loss" in line
    assert ("train_relative_l2" in line) is (weight == 2)
    assert ("val_relative_l2" in line) is (weight == 2)
