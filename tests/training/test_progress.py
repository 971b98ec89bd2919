"""A bar on a terminal, lines in a file."""

import sys

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


def lines_of(trainer, module, data, capsys):
    capsys.readouterr()
    trainer.fit(module, data)
    return [s for s in capsys.readouterr().out.splitlines() if s.startswith("epoch")]


def test_a_file_gets_a_line_now_and_then(tmp_path, capsys):
    module, data = parts()
    trainer = build_trainer(module, data, tmp_path, accelerator="cpu")
    assert trainer.progress_bar_callback is None
    (own,) = [c for c in trainer.callbacks if isinstance(c, EpochLines)]
    own.seconds = 1e9
    lines = lines_of(trainer, module, data, capsys)
    assert [line.partition(":")[0] for line in lines] == ["epoch 1/4", "epoch 4/4"]
    assert "val_loss 0." in lines[1] or "val_loss 1." in lines[1]

    module, data = parts()
    trainer = build_trainer(module, data, tmp_path / "all", accelerator="cpu")
    for callback in trainer.callbacks:
        if isinstance(callback, EpochLines):
            callback.seconds = 0.0
    assert len(lines_of(trainer, module, data, capsys)) == 4


@pytest.mark.parametrize("progress", [True, False])
def test_a_terminal_has_a_bar(progress, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    trainer = build_trainer(*parts(), tmp_path, accelerator="cpu", progress=progress)
    kinds = [type(callback) for callback in trainer.callbacks]
    assert (TQDMProgressBar in kinds) is progress
    assert EpochLines not in kinds
