"""Trainers that `build_trainer` did not make."""

import signal
import subprocess
import sys

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.tuner import Tuner
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import IterableDataset
from torch_geometric.loader import DataLoader

from torch_geometric_flare.training import (
    SurrogateDataModule,
    evaluate,
    quiet_lightning,
)
from torch_geometric_flare.training.flags import NUMBER

pytestmark = [
    pytest.mark.filterwarnings("ignore:You defined a `validation_step`"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.`"),
]
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


@pytest.fixture(autouse=True)
def _quiet():
    with quiet_lightning():
        yield


class Rates(Callback):
    """Notes the learning rate of each step."""

    def __init__(self):
        self.rates = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


class Stream(IterableDataset):
    """Samples without a length."""

    def __init__(self, samples):
        self.samples = samples

    def __iter__(self):
        return iter(self.samples)


def trainer(**options):
    options = {"enable_checkpointing": False, "limit_val_batches": 0} | options
    return Trainer(**QUIET, **options)


def scheduled(module, steps):
    """The learning rates of a training of so many steps."""
    optimizer = AdamW(module.parameters(), lr=module.recipe.learning_rate)
    recipe = module.recipe
    schedule = OneCycleLR(
        optimizer,
        max_lr=recipe.learning_rate,
        total_steps=steps,
        pct_start=max(recipe.pct_start, 2 / steps),
        div_factor=recipe.div_factor,
        final_div_factor=recipe.final_div_factor,
        cycle_momentum=recipe.cycle_momentum,
    )
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        if len(rates) < steps:
            schedule.step()
    return rates


def test_a_training_by_time_alone_names_what_the_schedule_needs(module, samples):
    data = SurrogateDataModule(samples(4, 0), batch_size=2)
    timed = trainer(max_epochs=-1, max_time={"seconds": 1})
    with pytest.raises(ValueError, match="max_epochs=-1 and max_steps=-1"):
        timed.fit(module(), data)


def test_a_training_by_time_and_steps_runs(module, samples):
    rates = Rates()
    timed = trainer(max_steps=7, max_time={"minutes": 1}, callbacks=[rates])
    training = module()
    timed.fit(training, SurrogateDataModule(samples(4, 0), batch_size=2))
    assert timed.global_step == 7
    assert rates.rates == pytest.approx(scheduled(training, 7))


def test_the_schedule_counts_steps_of_gathered_batches(module, samples):
    rates, training = Rates(), module()
    gathered = GradientAccumulationScheduler({0: 3, 2: 1})
    own = trainer(max_epochs=4, callbacks=[rates, gathered])
    own.fit(training, SurrogateDataModule(samples(8, 0), batch_size=2))
    assert own.global_step == 2 + 2 + 4 + 4
    assert list(dict.fromkeys(rates.rates)) == pytest.approx(scheduled(training, 12))


@pytest.mark.filterwarnings("ignore")  # of Lightning, about few batches
@pytest.mark.parametrize("mode", ["power", "binsearch"])
def test_the_batch_size_finder_changes_the_batch_size(module, samples, tmp_path, mode):
    data = SurrogateDataModule(samples(6, 0), batch_size=1)
    own = trainer(max_epochs=2, default_root_dir=tmp_path)
    found = Tuner(own).scale_batch_size(
        module(), datamodule=data, mode=mode, max_trials=2, steps_per_trial=1
    )
    assert found == data.batch_size > 1


@pytest.mark.parametrize("steps", [5, 9])
def test_a_stream_without_a_length_takes_max_steps(module, samples, steps):
    loader = DataLoader(Stream(samples(6, 0)), batch_size=2)
    rates, training = Rates(), module()
    streamed = trainer(max_steps=steps, callbacks=[rates])
    streamed.fit(training, loader)
    assert streamed.global_step == steps
    assert rates.rates == pytest.approx(scheduled(training, steps))
    # A number of epochs of unknown length says nothing.
    with pytest.raises(ValueError, match="max_steps=-1"):
        trainer(max_epochs=3).fit(module(), loader)


@pytest.mark.parametrize("first, then", [(2, 5), (1, 3), (5, 6)])
def test_resuming_for_more_epochs_follows_the_longer_schedule(
    module, samples, tmp_path, first, then
):
    split = samples(4, 0)
    data = SurrogateDataModule(split, batch_size=2)
    short = trainer(max_epochs=first)
    short.fit(module(), data)
    short.save_checkpoint(tmp_path / "c.ckpt")
    rates, training = Rates(), module()
    longer = trainer(max_epochs=then, callbacks=[rates])
    with pytest.warns(
        UserWarning, match=f"over {max(4, 2 * first)} steps.* {2 * then}"
    ):
        longer.fit(
            training,
            datamodule=SurrogateDataModule(split, batch_size=2),
            ckpt_path=tmp_path / "c.ckpt",
            weights_only=True,
        )
    assert longer.global_step == 2 * then
    assert rates.rates == pytest.approx(scheduled(training, 2 * then)[2 * first :])


def test_two_validation_loaders_have_an_error_each(module, samples):
    coarse, fine = samples(4, 0), samples(3, 1)
    training = module()
    loaders = [DataLoader(coarse, batch_size=2), DataLoader(fine, batch_size=3)]
    for run in (trainer(limit_val_batches=None).validate, trainer().test):
        found = run(training, loaders, verbose=False)
        for index, split in enumerate((coarse, fine)):
            (error,) = [
                value
                for name, value in found[index].items()
                if name.endswith(f"_loss/dataloader_idx_{index}")
            ]
            expected = evaluate(training.surrogate, split).mean().item()
            assert error == pytest.approx(expected, rel=1e-5)


def test_samples_that_are_not_batched_count_one_each(module, samples):
    split = samples(4, 0)
    loader = torch.utils.data.DataLoader(split, batch_size=None)
    training = module()
    (found,) = trainer(limit_val_batches=None).validate(training, loader, verbose=False)
    expected = evaluate(training.surrogate, split).mean().item()
    assert found["val_loss"] == pytest.approx(expected, rel=1e-5)
    trained = trainer(max_epochs=1)
    trained.fit(module(), loader)
    assert trained.global_step == 4


def test_samples_are_numbered_where_a_trainer_asks_for_them(module, samples):
    class Numbers(Callback):
        seen = []

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            self.seen += batch[NUMBER].tolist()

    split = samples(3, 0)
    trainer(max_epochs=1, callbacks=[Numbers()]).fit(
        module(), SurrogateDataModule(split, batch_size=2)
    )
    assert sorted(Numbers.seen) == [0, 1, 2]
    assert NUMBER not in split[0]


_TERMINATED = """
import os, signal, sys, torch
from lightning.pytorch import Callback
from torch_geometric.data import Data
from torch_geometric_flare import FLARE
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.training import SurrogateDataModule, SurrogateModule, fit
from torch_geometric_flare.transforms import Normalizer

class Terminate(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

samples = [Data(x=torch.rand(9, 3), y=torch.rand(9, 1)) for _ in range(4)]
model = FLARE(3, 8, 1, num_layers=1, heads=2, num_latents=4)
module = SurrogateModule(model, Normalizer.gaussian(s.y for s in samples),
                         recipe=Recipe(model_class=FLARE, epochs=50, batch_size=2))
fit(module, SurrogateDataModule(samples, batch_size=2), sys.argv[1],
    accelerator="cpu", progress=False, callbacks=[Terminate()])
print("returned")
"""


@pytest.mark.slow
def test_sigterm_ends_fit_with_the_status_of_the_signal(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _TERMINATED, str(tmp_path)], capture_output=True
    )
    assert done.returncode == 128 + signal.SIGTERM
    assert b"returned" not in done.stdout
    assert (tmp_path / "last.ckpt").exists()  # of the epochs before
