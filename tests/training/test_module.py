import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

from torch_geometric_flare.training import (
    SurrogateDataModule,
    build_trainer,
    fit,
    quiet_lightning,
)

pytestmark = pytest.mark.segment


class Constant(nn.Module):
    def __init__(self):
        super().__init__()
        self.level = nn.Parameter(torch.tensor([[1.0]]))

    def forward(self, x):
        return self.level.expand(len(x), 1)


def test_the_loss_is_the_mean_over_samples_of_decoded_errors(module):
    # The level 1 is decoded to 20 + 7 = 27.
    batch = Batch.from_data_list(
        [
            Data(x=torch.ones(1, 3), y=torch.full((1, 1), 30.0)),
            Data(x=torch.ones(5, 3), y=torch.full((5, 1), 54.0)),
        ]
    )
    training = module(Constant())
    loss = training.loss(training(batch), batch)
    assert loss.item() == pytest.approx((3 / 30 + 27 / 54) / 2)


def test_optimizer_and_schedule_follow_the_recipe(module, samples, tmp_path):
    training = module(
        epochs=50, learning_rate=2e-3, weight_decay=0.25, betas=(0.9, 0.99)
    )
    data = SurrogateDataModule(samples(4, 0), batch_size=2)
    trainer = build_trainer(training, data, tmp_path, accelerator="cpu")
    trainer.strategy.connect(training)
    with quiet_lightning():
        trainer._data_connector.attach_data(training, datamodule=data)
        chosen = training.configure_optimizers()
    optimizer, schedule = chosen["optimizer"], chosen["lr_scheduler"]["scheduler"]
    assert chosen["lr_scheduler"]["interval"] == "step"
    assert trainer.gradient_clip_val == 1.0
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.25, 0.0]
    rates, momenta = [], []
    for _ in range(100):
        rates.append(optimizer.param_groups[1]["lr"])
        momenta.append(optimizer.param_groups[1]["betas"])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(2e-3 / 25)
    assert rates.index(max(rates)) == 9 and max(rates) == pytest.approx(2e-3)
    assert rates[-1] == pytest.approx(2e-3 / 25 / 1e4)
    assert momenta[0] == (0.95, 0.99)
    assert momenta[9] == pytest.approx((0.85, 0.99))


@pytest.mark.parametrize("epochs", range(1, 12))
def test_the_schedule_takes_any_number_of_steps(module, samples, tmp_path, epochs):
    data = SurrogateDataModule(samples(1, 0), batch_size=2)
    training = module(epochs=epochs)
    fit(training, data, tmp_path, accelerator="cpu", progress=False)
    assert training.trainer.global_step == epochs


def test_a_loss_that_is_not_finite_stops_the_training(module, samples, tmp_path):
    train = samples(4, 0)
    train[0].x[3, 1] = float("nan")
    data = SurrogateDataModule(train, batch_size=2)
    message = r"the loss is nan in epoch 0, step [01]: look for .* learning_rate=0.01"
    with pytest.raises(RuntimeError, match=message):
        fit(module(), data, tmp_path, accelerator="cpu", progress=False)


def test_a_missing_field_is_named(module, samples, tmp_path):
    for name in ("x", "y"):
        train = samples(2, 0)
        for sample in train:
            del sample[name]
            del sample["pos"]
        data = SurrogateDataModule(train, batch_size=2)
        with pytest.raises(ValueError, match=rf"field '?{name}\b"):
            fit(module(), data, tmp_path / name, accelerator="cpu", progress=False)


def test_a_prediction_of_another_shape_is_refused(module, samples, tmp_path):
    train = samples(2, 0)
    for sample in train:
        sample.y = sample.y.flatten()
    data = SurrogateDataModule(train, batch_size=2)
    with pytest.raises(ValueError, match="must agree"):
        fit(module(), data, tmp_path, accelerator="cpu", progress=False)


def test_validation_and_test_are_means_over_samples(module, samples, tmp_path):
    # Three samples in batches of two: a mean of the batches' means would differ.
    split = samples(3, 1)
    data = SurrogateDataModule(samples(2, 0), split, split, batch_size=2)
    training = module(Constant())
    (whole,) = DataLoader(split, batch_size=3)
    expected = training.loss(training(whole), whole).item()
    with quiet_lightning():
        trainer = build_trainer(
            training, data, tmp_path, accelerator="cpu", progress=False
        )
        tested = trainer.test(training, data, verbose=False)
        validated = trainer.validate(training, data, verbose=False)
    assert tested == [{"test_relative_l2": pytest.approx(expected)}]
    assert validated == [{"val_relative_l2": pytest.approx(expected)}]
