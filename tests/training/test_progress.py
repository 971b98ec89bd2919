"""A bar on a terminal, lines in a file."""

import itertools
import re
import sys
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from torch_geometric.data import Data

from torch_geometric_flare import FLARE
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.training import (
    SurrogateDataModule,
    SurrogateModule,
    build_trainer,
    fit,
    quiet_lightning,
)
from torch_geometric_flare.training.progress import EpochLines
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
    module = "torch_geometric_flare.training.progress"
    clock = SimpleNamespace(monotonic=itertools.count(0, pace).__next__)
    monkeypatch.setattr(f"{module}.time", clock)
    fit(*parts(), tmp_path, accelerator="cpu")
    lines = capsys.readouterr().out.splitlines()
    lines = [line for line in lines if line.startswith("epoch")]
    heads = [line.partition(":")[0] for line in lines]
    assert heads == [f"epoch {n}/4" for n in epochs]
    for name in ("train_loss", "val_loss"):
        assert re.search(rf"{name} \d", lines[-1])


@pytest.mark.parametrize("progress", [True, False])
def test_a_terminal_has_a_bar(progress, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    trainer = build_trainer(*parts(), tmp_path, accelerator="cpu", progress=progress)
    kinds = [type(callback) for callback in trainer.callbacks]
    assert (TQDMProgressBar in kinds) is progress
    assert EpochLines not in kinds


@pytest.mark.parametrize("every, validated", [(1, "12345"), (2, "24"), (3, "3")])
def test_a_line_has_errors_of_its_own_epoch_alone(every, validated, tmp_path, capsys):
    module, data = parts(epochs=5)
    trainer = build_trainer(
        module, data, tmp_path, accelerator="cpu", validate_every=every
    )
    (lines,) = (each for each in trainer.callbacks if isinstance(each, EpochLines))
    lines.seconds = 0.0
    with quiet_lightning():
        trainer.fit(module, datamodule=data)
    out = [line for line in capsys.readouterr().out.splitlines() if "epoch" in line]
    assert "".join(line[6] for line in out if "val_loss" in line) == validated
    assert all("train_loss" in line for line in out)
