import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import global_mean_pool

from torch_geometric_flare.fields import Field
from torch_geometric_flare.nn import FLARE
from torch_geometric_flare.recipes import FLARE_PAPER, Recipe
from torch_geometric_flare.surrogates import load_surrogate
from torch_geometric_flare.training import (
    SurrogateDataModule,
    SurrogateModule,
    TrainerConfig,
    build_trainer,
    evaluate,
    evaluate_per_field,
    fit,
    quiet_lightning,
    read_history,
)
from torch_geometric_flare.transforms import Normalizer

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
    config = TrainerConfig(accelerator="cpu")
    trainer = build_trainer(training, data, tmp_path, config)
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
    message = r"the loss is nan in epoch 0, step [01]: x .* at point 3 in sample 0 of"
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
    with pytest.raises(
        ValueError, match=r"y has shape \(\d+,\), expected .* \(\d+, 1\)"
    ):
        fit(module(), data, tmp_path, accelerator="cpu", progress=False)


def test_validation_and_test_are_means_over_samples(module, samples, tmp_path):
    # Three samples in batches of two: a mean of the batches' means would differ.
    split = samples(3, 1)
    data = SurrogateDataModule(samples(2, 0), split, split, batch_size=2)
    training = module(Constant())
    (whole,) = DataLoader(split, batch_size=3)
    expected = training.loss(training(whole), whole).item()
    with quiet_lightning():
        config = TrainerConfig(accelerator="cpu", progress=False)
        trainer = build_trainer(training, data, tmp_path, config)
        tested = trainer.test(training, data, verbose=False)
        validated = trainer.validate(training, data, verbose=False)
    for stage, found in (("test", tested), ("val", validated)):
        names = (f"{stage}_loss", f"{stage}_relative_l2")
        assert found == [dict.fromkeys(names, pytest.approx(expected))]


FIELDS = (Field("pressure", 1, "Pa"), Field("displacement", 2, "m"))


class Levels(nn.Module):
    """A level for each channel."""

    def __init__(self):
        super().__init__()
        self.levels = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        return self.levels.expand(len(x), 3)


def two_fields(model=None, **recipe):
    """Pressure in the millions beside displacement in micrometres."""
    model = Levels() if model is None else model
    arguments = {"epochs": 2, "batch_size": 2, "learning_rate": 1e-2} | recipe
    return SurrogateModule(
        model,
        Normalizer([1e6, 2e-6, 2e-6], [1e6, 1e-6, 1e-6]),
        recipe=Recipe(model_class=type(model), **arguments),
        fields=FIELDS,
        training_data="simulated beams",
    )


def beams():
    """Both fields depend on x."""
    generator = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(4):
        x = torch.rand(20, 3, generator=generator)
        y = torch.cat([3e6 * x[:, :1], 3e-6 * x[:, :1], 3e-6 * x[:, 1:2]], dim=1)
        samples.append(Data(x=x, y=y))
    return samples


def test_the_loss_of_several_fields_is_the_mean_of_one_error_each():
    training = two_fields()
    levels = [[2e6, 1e-6, 1e-6], [4e6, 4e-6, 4e-6]]
    batch = Batch.from_data_list(
        [
            Data(x=torch.ones(n, 3), y=torch.tensor([level] * n))
            for n, level in zip((1, 5), levels, strict=True)
        ]
    )
    loss = training.loss(training(batch), batch)  # of 1e6, 2e-6, 2e-6 everywhere
    pressure, displacement = (1 / 2 + 3 / 4) / 2, (1 / 1 + 2 / 4) / 2
    assert loss.item() == pytest.approx((pressure + displacement) / 2)


def test_fields_of_very_different_units_are_both_learned(tmp_path):
    """One norm over all channels leaves the small field where it was: 0.4 and more."""
    torch.manual_seed(0)
    model = FLARE(3, 16, 3, num_layers=1, heads=2, num_latents=4)
    training = two_fields(model, epochs=60)
    data = SurrogateDataModule(beams(), batch_size=2)
    before = evaluate_per_field(training.surrogate, beams())
    surrogate = fit(training, data, tmp_path, accelerator="cpu", progress=False)
    after = evaluate_per_field(surrogate, beams())
    assert list(after) == ["pressure", "displacement"]
    for name, errors in after.items():
        assert before[name].mean() > 0.4 and errors.mean() < 0.15, name
    mean = (after["pressure"] + after["displacement"]) / 2
    assert torch.equal(evaluate(surrogate, beams(), 3), mean)


def test_each_of_several_fields_is_logged(tmp_path):
    data = SurrogateDataModule(beams(), beams(), batch_size=2)
    training = two_fields()
    surrogate = fit(training, data, tmp_path, accelerator="cpu", progress=False)
    history = read_history(tmp_path)
    names = ["", "_displacement", "_pressure"]
    logged = ["loss", *(f"relative_l2{name}" for name in names)]
    assert list(history) == ["epoch"] + [
        f"{stage}_{name}" for stage in ("train", "val") for name in logged
    ]
    for name, errors in evaluate_per_field(surrogate, beams()).items():
        logged = history[f"val_relative_l2_{name}"][-1]
        assert logged == pytest.approx(errors.mean().item(), rel=1e-4)
    for stage in ("train", "val"):
        of = [history[f"{stage}_relative_l2{name}"][-1] for name in names]
        assert of[0] == pytest.approx((of[1] + of[2]) / 2)


def test_names_and_inputs_travel_in_the_checkpoint(tmp_path):
    features = (Field("thickness", 1, "m"),)
    training = SurrogateModule(
        Levels(),
        Normalizer([1e6, 2e-6, 2e-6], [1e6, 1e-6, 1e-6]),
        Normalizer.from_bounds([0.0, 0.0], [1.0, 1.0]),
        Recipe(model_class=Levels, epochs=1, batch_size=2),
        fields=FIELDS,
        features=features,
        input_normalizer=Normalizer([0.5, 0.5, 0.1], [0.3, 0.3, 0.1]),
    )
    data = SurrogateDataModule(beams(), batch_size=2)
    fit(training, data, tmp_path, accelerator="cpu", progress=False)
    loaded = load_surrogate(tmp_path / "last.ckpt", Levels())
    assert (loaded.fields, loaded.features) == (FIELDS, features)
    assert loaded.input_normalizer.shift.tolist() == pytest.approx([0.5, 0.5, 0.1])
    assert loaded.coordinate_normalizer.scale.tolist() == [1.0, 1.0]


def test_an_overridden_loss_is_that_of_all_stages(samples, module, tmp_path):
    class Scaled(SurrogateModule):
        def loss(self, prediction, data):
            return 1000 * super().loss(prediction, data)

    split = samples(4, 0)
    for name, kind in (("plain", SurrogateModule), ("scaled", Scaled)):
        training = module(epochs=1, batch_size=4, ema_decay=0.0)
        training.__class__ = kind
        data = SurrogateDataModule(split, split, split, batch_size=4)
        fit(training, data, tmp_path / name, accelerator="cpu", progress=False)
        with quiet_lightning():
            (tested,) = training.trainer.test(training, data, verbose=False)
        factor = 1000 if kind is Scaled else 1
        error = tested["test_relative_l2"]
        assert tested["test_loss"] == pytest.approx(factor * error)
    plain, scaled = (read_history(tmp_path / name) for name in ("plain", "scaled"))
    assert scaled["train_relative_l2"] == plain["train_relative_l2"]
    for stage in ("train", "val"):
        error = scaled[f"{stage}_relative_l2"][0]
        assert scaled[f"{stage}_loss"][0] == pytest.approx(1000 * error)


class PointLogits(nn.Linear):
    def forward(self, x):
        return super().forward(x)


class Classifier(SurrogateModule):
    """One label per sample: no field of the data fits the relative errors."""

    def measure(self, prediction, data):
        logits = global_mean_pool(prediction, data.batch)
        right = logits.argmax(1) == data.label
        loss = nn.functional.cross_entropy(logits, data.label)
        return {"loss": loss, "accuracy": right.float().mean()}


def test_one_override_trains_validates_and_tests_on_labels(tmp_path):
    split = []
    for number in range(8):
        label = torch.tensor([number % 2])
        split.append(Data(x=label + 0.1 * torch.rand(5, 3), label=label))
    torch.manual_seed(0)
    training = Classifier(
        PointLogits(3, 2),
        Normalizer([0.0, 0.0], [1.0, 1.0]),
        recipe=Recipe(
            model_class=PointLogits,
            epochs=20,
            batch_size=4,
            learning_rate=0.1,
            ema_decay=0.0,
        ),
    )
    data = SurrogateDataModule(split, split, split, batch_size=4)
    fit(training, data, tmp_path, accelerator="cpu", progress=False)
    history = read_history(tmp_path)
    with quiet_lightning():
        (tested,) = training.trainer.test(training, data, verbose=False)
    names = ["epoch", "train_accuracy", "train_loss", "val_accuracy", "val_loss"]
    assert list(history) == names
    assert history["val_accuracy"][-1] == tested["test_accuracy"] == 1.0
    assert history["val_loss"][-1] < 0.5 * history["val_loss"][0]


def test_measures_without_a_loss_are_refused(module, samples, tmp_path):
    class Forgetful(SurrogateModule):
        def measure(self, prediction, data):
            return {"error": prediction.mean()}

    training = module()
    training.__class__ = Forgetful
    data = SurrogateDataModule(samples(2, 0), batch_size=2)
    message = r"Forgetful.measure returned \['error'\] without 'loss'"
    with pytest.raises(ValueError, match=message):
        fit(training, data, tmp_path, accelerator="cpu", progress=False)


def test_a_recipe_for_another_class_is_refused():
    message = "model is a Levels, but the recipe is for FLARE: .*recipe.build"
    with pytest.raises(ValueError, match=message):
        SurrogateModule(Levels(), Normalizer([0.0], [1.0]), recipe=FLARE_PAPER)
