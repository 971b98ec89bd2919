import pytest
import torch
from torch import nn

from torch_geometric_flare.nn import FLARE
from torch_geometric_flare.surrogates import load_surrogate
from torch_geometric_flare.training import (
    SurrogateDataModule,
    evaluate,
    fit,
)


@pytest.fixture
def run(module, samples, tmp_path):
    """Trains a model; gives its training, result and checkpoint."""

    def start(model=None, epochs=2, training=None):
        training = training or module(model, epochs=epochs)
        data = SurrogateDataModule(samples(3, 0), batch_size=2)
        surrogate = fit(training, data, tmp_path, accelerator="cpu", progress=False)
        return training, surrogate, tmp_path / "last.ckpt"

    return start


def small_flare():
    return FLARE(3, 16, 1, num_layers=2, heads=2, num_latents=4, kv_layers=1)


def test_the_file_holds_tensors_and_plain_values(run):
    training, _, path = run(small_flare())
    checkpoint = torch.load(path, weights_only=True)
    description = checkpoint["surrogate"]
    assert description["model"] == "FLARE"
    assert description["arguments"]["num_latents"] == 4
    assert description["recipe"] == training.recipe.to_dict()


def test_a_known_class_is_rebuilt_from_the_file_alone(run, samples):
    training, _, path = run(small_flare())
    surrogate = load_surrogate(path)
    assert type(surrogate.model) is FLARE
    assert surrogate.model.kv_layers == 1
    assert not surrogate.training
    assert surrogate.target_normalizer.shift.item() == 20.0
    assert surrogate.coordinate_normalizer.scale.tolist() == [4.0] * 3
    (sample,) = samples(1, 5)
    expected = training.surrogate.predict(sample)
    assert torch.equal(surrogate.predict(sample), expected)
    torch.testing.assert_close(surrogate.predict(sample.pos), expected)


def test_a_class_of_ones_own_is_handed_in(run, samples, pointwise):
    _, trained, path = run()
    with pytest.raises(
        ValueError, match=r"'Pointwise', which cannot be rebuilt.*model="
    ):
        load_surrogate(path)
    surrogate = load_surrogate(path, pointwise())
    split = samples(4, 5)
    assert torch.equal(evaluate(surrogate, split), evaluate(trained, split, 3))


def test_the_weights_are_the_average_of_every_step(module, samples, tmp_path):
    class Recorder(type(module())):
        def on_train_batch_start(self, batch, batch_idx):
            steps.append(self.surrogate.model.layers[0].weight.detach().clone())

    steps = []
    training = module(epochs=15, ema_decay=0.3)
    training.__class__ = Recorder
    data = SurrogateDataModule(samples(4, 0), batch_size=2)
    fit(training, data, tmp_path, accelerator="cpu", progress=False)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    name = "surrogate.model.layers.0.weight"
    # Thirty steps allow a decay of 1 - 20/30, so 0.3 stays.
    average = steps[1]
    for weight in [*steps[2:], checkpoint["current_model_state"][name]]:
        average = 0.3 * average + 0.7 * weight
    torch.testing.assert_close(checkpoint["state_dict"][name], average)
    assert not torch.equal(average, checkpoint["current_model_state"][name])


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x):
        self.calls += self.training
        return self.layer(x)


def test_buffers_are_copied(run):
    _, _, path = run(Counting(), epochs=20)
    state = torch.load(path, weights_only=True)["state_dict"]
    assert state["surrogate.model.calls"].item() == 40  # two steps an epoch


def test_the_training_data_travel_along(run, module):
    training = module(small_flare(), epochs=1)
    training.surrogate.training_data = "simulated cars"
    _, _, path = run(training=training)
    assert load_surrogate(path).training_data == "simulated cars"
