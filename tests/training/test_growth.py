import copy

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from torch_geometric_flare import FLARE
from torch_geometric_flare.surrogates import load_surrogate
from torch_geometric_flare.training import (
    GrowLatents,
    MuonAdamW,
    SurrogateDataModule,
    fit,
    grow_training,
)


def flare(num_latents=2):
    torch.manual_seed(0)
    return FLARE(3, 8, 1, num_layers=1, heads=2, num_latents=num_latents)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adam, MuonAdamW])
def test_a_grown_training_goes_the_same_way(kind):
    model, x = flare().double(), torch.randn(40, 3, dtype=torch.float64)
    optimizer = kind([{"params": list(model.parameters())}], lr=1e-2, eps=1e-30)

    def train(model, optimizer):
        for _ in range(3):
            optimizer.zero_grad()
            (model(x) - x[:, :1].sin()).square().mean().backward()
            optimizer.step()

    train(model, optimizer)
    grown, moments = copy.deepcopy((model, optimizer))
    grow_training(grown, moments, 3)
    train(model, optimizer)
    train(grown, moments)
    torch.testing.assert_close(grown(x), model(x), rtol=0, atol=1e-9)
    ours = grown.blocks[0].mixer.latents
    theirs = model.blocks[0].mixer.latents.repeat_interleave(3, dim=1)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-8)


class Kill(Callback):
    """Fails in the middle of an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_batch_end(self, trainer, *args):
        if trainer.current_epoch == self.epoch:
            raise KeyError("killed")


@pytest.mark.parametrize(
    ("schedule", "every", "killed"),
    [
        ({1: 4, 3: 8}, "epoch", 1),  # in the epoch that grows
        ({1: 4, 3: 8}, "epoch", 2),  # after it
        ({3: 4, 5: 8}, "step", 2),  # of two steps an epoch, grown in its middle
    ],
)
@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_a_killed_training_resumes_to_the_same_bits(
    module, samples, tmp_path, monkeypatch, schedule, every, killed, ema_decay
):
    # So that so short a training has an average of the weights.
    monkeypatch.setattr("torch_geometric_flare.training.callbacks._LIFETIMES", 1)

    def train(folder, *callbacks):
        data = SurrogateDataModule(samples(4, 0), samples(2, 1), batch_size=2)
        training = module(flare(), ema_decay=ema_decay)
        return fit(
            training,
            data,
            folder,
            accelerator="cpu",
            progress=False,
            resume=True,
            callbacks=[GrowLatents(schedule, every), *callbacks],
        )

    whole = train(tmp_path / "whole")
    assert whole.model.num_latents == 8
    with pytest.raises(KeyError):
        train(tmp_path / "killed", Kill(killed))
    resumed = train(tmp_path / "killed")
    loaded = load_surrogate(tmp_path / "killed" / "last.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
        assert torch.equal(loaded.state_dict()[name], value), name
    latents = whole.model.blocks[0].mixer.latents
    assert latents.shape == (2, 8, 4)
    assert len(latents[0].unique(dim=0)) == 8  # noise has parted the copies


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({},), "schedule"),
        (({-1: 4},), "schedule"),
        (({0: 4, 5: 6},), "4 latents cannot grow to 6"),
        (({0: 4, 5: 2},), "4 latents cannot grow to 2"),
        (({0: 4}, "hour"), "every is 'hour'"),
    ],
)
def test_schedules_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        GrowLatents(*arguments)


def test_a_schedule_must_suit_the_network(module, samples, tmp_path):
    data = SurrogateDataModule(samples(2, 0), batch_size=2)
    callbacks = [GrowLatents({1: 5})]
    with pytest.raises(ValueError, match="2 latents cannot grow to 5"):
        fit(module(flare()), data, tmp_path, progress=False, callbacks=callbacks)
