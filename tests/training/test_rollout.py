import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data

from torch_geometric_flare.fields import Field
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.surrogates import save_surrogate
from torch_geometric_flare.training import (
    RolloutModule,
    SurrogateDataModule,
    evaluate_rollout,
    fit,
    read_history,
)
from torch_geometric_flare.transforms import Normalizer, TimeWindow

CHANGES = {"height": "rise"}


class Growth(nn.Module):
    """A rise of the height times one factor, from the columns (x, y, height)."""

    def __init__(self, factor=0.0):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor([[factor]]))

    def forward(self, x):
        return self.factor * x[:, 2:]


def make_module(factor=0.0, scale=1.0, noise=0.0, changes=None, **recipe):
    recipe = {"epochs": 1, "batch_size": 2, "ema_decay": 0.0} | recipe
    return RolloutModule(
        Growth(factor / scale),
        Normalizer([0.0], [scale]),
        recipe=Recipe(model_class=Growth, **recipe),
        changes=CHANGES if changes is None else changes,
        noise=noise,
        fields=[Field("rise", 1, "m")],
        features=[Field("height", 1, "m")],
    )


def histories(num_samples, num_states=5, rate=0.5):
    """Heights that grow by half in each step."""
    growth = (1 + rate) ** torch.arange(num_states)
    return [
        Data(pos=torch.rand(n, 2), y=(1 + torch.rand(n, 1)) * growth)
        for n in range(4, 4 + num_samples)
    ]


def windows(samples, num_steps):
    return [TimeWindow([Field("height")], num_steps, start=0)(s) for s in samples]


def test_the_loss_is_the_mean_over_steps_and_samples_of_the_unrolled_states():
    batch = Batch.from_data_list(windows(histories(3), 3))
    module = make_module(factor=0.2)
    measured = module.measure(module(batch), batch)
    errors = [1 - (1.2 / 1.5) ** step for step in (1, 2, 3)]
    assert measured["relative_l2"].item() == pytest.approx(sum(errors) / 3)
    assert measured["relative_l2_last"].item() == pytest.approx(errors[-1])
    assert measured["loss"].item() == pytest.approx(sum(errors) / 3)
    measured["loss"].backward()
    slopes = [-step * 1.2 ** (step - 1) / 1.5**step for step in (1, 2, 3)]
    gradient = module.surrogate.model.factor.grad.item()
    assert gradient == pytest.approx(sum(slopes) / 3, rel=1e-4)


def test_noise_is_of_the_first_state_in_training_alone():
    (sample,) = windows(histories(1), 2)
    sample = Data(
        pos=torch.rand(20_000, 2),
        height=torch.full((20_000, 1), 3.0),
        y=torch.full((20_000, 2), 3.0),
    )
    module = make_module(factor=0.0, scale=0.5, noise=0.4)
    before = sample.height.clone()
    found = module.train()(sample)
    assert found.std(0).tolist() == pytest.approx([0.2, 0.2], rel=0.02)
    assert found[:, 0].equal(found[:, 1])  # the state is disturbed once
    assert sample.height.equal(before)
    assert module.eval()(sample).equal(torch.full((20_000, 2), 3.0))
    assert make_module(noise=0.0).train()(sample).equal(module(sample))


def test_training_finds_the_growth_of_a_step(tmp_path):
    train, test = histories(6), windows(histories(2), 4)
    data = SurrogateDataModule(
        train,
        val=test,
        batch_size=2,
        train_transform=TimeWindow([Field("height")], 2),
    )
    module = make_module(epochs=60, learning_rate=3e-2, noise=0.01, scale=0.5)
    options = {"accelerator": "cpu", "progress": False, "validate_every": 60}
    surrogate = fit(module, data, tmp_path, **options)
    errors = evaluate_rollout(surrogate, test, CHANGES, batch_size=2)
    assert errors.shape == (2, 4)
    assert errors.max() < 0.03
    assert set(read_history(tmp_path)) >= {
        "train_relative_l2_last",
        "val_loss",
        "val_relative_l2_last",
    }


def test_loads_its_options_from_a_checkpoint(tmp_path):
    data = SurrogateDataModule(windows(histories(2), 2), batch_size=2)
    fit(make_module(noise=0.25), data, tmp_path, accelerator="cpu", progress=False)
    load = RolloutModule.load_from_checkpoint
    again = load(tmp_path / "last.ckpt", Growth())
    assert again.changes == CHANGES and again.noise == 0.25
    assert load(tmp_path / "last.ckpt", Growth(), noise=0.5).noise == 0.5
    save_surrogate(again.surrogate, tmp_path / "plain.ckpt")
    with pytest.raises(ValueError, match="changes="):
        load(tmp_path / "plain.ckpt", Growth(), recipe=again.recipe)


def test_resuming_with_other_noise_is_refused(tmp_path):
    train = windows(histories(2), 2)
    data = SurrogateDataModule(train, batch_size=2)
    options = {"accelerator": "cpu", "progress": False}
    fit(make_module(noise=0.1), data, tmp_path, **options)
    fit(make_module(noise=0.1), data, tmp_path, resume=True, **options)
    with pytest.raises(ValueError, match=r"another rollout; .*'noise': \(0.1, 0.2\)"):
        fit(make_module(noise=0.2), data, tmp_path, resume=True, **options)


def test_errors_of_each_sample_and_step():
    samples = windows(histories(3), 4)
    samples[1].y = samples[1].y * 2
    surrogate = make_module(factor=0.5).surrogate
    errors = evaluate_rollout(surrogate, samples, CHANGES)
    expected = torch.tensor([[0.0] * 4, [0.5] * 4, [0.0] * 4])
    torch.testing.assert_close(errors, expected, atol=1e-5, rtol=0)
    together = evaluate_rollout(surrogate, samples, CHANGES, batch_size=3)
    torch.testing.assert_close(together, errors, atol=1e-6, rtol=0)


def test_bad_arguments():
    for noise in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="noise must be finite and nonnegative"):
            make_module(noise=noise)
    with pytest.raises(ValueError, match="derivative_weight is 0.1, but the loss of a"):
        make_module(derivative_weight=0.1)
    with pytest.raises(ValueError, match="changes is empty"):
        make_module(changes={})
    with pytest.raises(ValueError, match="dataset is empty"):
        evaluate_rollout(make_module().surrogate, [], CHANGES)
    sample = Data(pos=torch.rand(3, 2), height=torch.ones(3, 1))
    with pytest.raises(ValueError, match=r"y of shape None, expected .*TimeWindow"):
        make_module()(sample)


def test_a_field_that_changes_nothing_is_refused():
    with pytest.raises(ValueError, match=r"the fields \['colour'\]"):
        RolloutModule(
            Growth(),
            Normalizer.identity(2),
            changes=CHANGES,
            fields=[Field("rise"), Field("colour")],
            features=[Field("height")],
        )
