import shutil

import pytest
import torch
from lightning.pytorch import Callback

from torch_geometric_flare.surrogates import load_surrogate
from torch_geometric_flare.training import SurrogateDataModule, SurrogateModule, fit


class Scripted(SurrogateModule):
    """Validates to numbers that are given, one per epoch."""

    losses = (3.0, 1.0, 2.0, 1.0, 4.0, 5.0)

    def validation_step(self, batch, batch_idx):
        loss = torch.tensor(self.losses[self.current_epoch])
        self.log("val_loss", loss, batch_size=batch.num_graphs)


class Copies(Callback):
    """Keeps the last checkpoint of every epoch, and dies at the start of one."""

    def __init__(self, folder, dies=None):
        self.folder = folder
        self.dies = dies

    def on_train_epoch_start(self, trainer, module):
        last = self.folder / "last.ckpt"
        if last.exists():
            shutil.copy(last, self.folder / f"{trainer.current_epoch - 1}.ckpt")
        if trainer.current_epoch == self.dies:
            raise InterruptedError


def train(module, samples, folder, dies=None, **arguments):
    data = SurrogateDataModule(samples(4, 0), samples(2, 1), batch_size=2)
    made = module(epochs=6)
    made.__class__ = Scripted
    arguments |= {"accelerator": "cpu", "progress": False}
    return fit(made, data, folder, callbacks=[Copies(folder, dies)], **arguments)


def weights(surrogate):
    return torch.cat([p.flatten() for p in surrogate.model.parameters()])


def load(module, path):
    return weights(load_surrogate(path, module().surrogate.model))


def test_the_best_is_kept_and_returned(module, samples, tmp_path):
    best = weights(train(module, samples, tmp_path, keep_best=True))
    assert torch.equal(best, load(module, tmp_path / "best.ckpt"))
    assert torch.equal(best, load(module, tmp_path / "1.ckpt"))  # the earliest of equal
    assert not torch.equal(best, load(module, tmp_path / "last.ckpt"))
    assert not list(tmp_path.glob("*.part"))


def test_without_it_the_last_is_returned(module, samples, tmp_path):
    last = weights(train(module, samples, tmp_path))
    assert torch.equal(last, load(module, tmp_path / "last.ckpt"))
    assert not (tmp_path / "best.ckpt").exists()


@pytest.mark.parametrize("dies", [1, 3])
def test_a_resumed_training_keeps_the_same(module, samples, tmp_path, dies):
    (tmp_path / "whole").mkdir()
    expected = weights(train(module, samples, tmp_path / "whole", keep_best=True))
    folder = tmp_path / "killed"
    folder.mkdir()
    with pytest.raises(InterruptedError):
        train(module, samples, folder, dies=dies, keep_best=True)
    found = weights(train(module, samples, folder, keep_best=True, resume=True))
    assert torch.equal(found, expected)


def test_patience_ends_a_training_for_good(module, samples, tmp_path):
    best = weights(train(module, samples, tmp_path, keep_best=True, patience=2))
    assert torch.equal(best, load(module, tmp_path / "1.ckpt"))
    # Lowest in epoch 1; not lower in 2 and 3, the last one.
    assert not (tmp_path / "3.ckpt").exists()
    last = (tmp_path / "last.ckpt").read_bytes()
    again = train(module, samples, tmp_path, keep_best=True, patience=2, resume=True)
    assert torch.equal(weights(again), best)
    assert not (tmp_path / "4.ckpt").exists()
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 3
    assert len((tmp_path / "last.ckpt").read_bytes()) == len(last)


def test_a_finished_training_without_a_best_one(module, samples, tmp_path):
    train(module, samples, tmp_path)
    with pytest.raises(ValueError, match=r"holds no best\.ckpt"):
        train(module, samples, tmp_path, keep_best=True, resume=True)


def test_what_they_need(module, samples, tmp_path):
    data = SurrogateDataModule(samples(4, 0), batch_size=2)
    with pytest.raises(ValueError, match="need a validation split: pass val="):
        fit(module(), data, tmp_path, keep_best=True)
    with pytest.raises(ValueError, match="need a validation split: pass val="):
        fit(module(), data, tmp_path, patience=3)
    with pytest.raises(ValueError, match="patience .* 0"):
        fit(module(), data, tmp_path, patience=0)
    both = SurrogateDataModule(samples(4, 0), samples(2, 1), batch_size=2)
    with pytest.raises(ValueError, match="validate_every=5 .* epochs=4"):
        fit(module(), both, tmp_path, keep_best=True, validate_every=5)
