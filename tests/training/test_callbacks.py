import pytest
import torch
from lightning.pytorch import Callback

from torch_geometric_flare.surrogates import load_surrogate
from torch_geometric_flare.training import SurrogateDataModule, fit, scaled_ema_decay


class Average(Callback):
    """Averages the weights after each step in double precision."""

    def __init__(self, decay):
        self.decay = decay
        self.average = None

    def on_train_batch_end(self, trainer, module, *_):
        now = torch.nn.utils.parameters_to_vector(module.parameters()).double()
        before = now if self.average is None else self.average
        self.average = torch.lerp(now, before, self.decay).detach()


@pytest.mark.parametrize(
    ("decay", "num_steps", "expected"),
    [
        (0.999, 250_000, 0.999),
        (0.999, 20_000, 0.999),
        (0.999, 4_000, 0.995),
        (0.999, 40, 0.5),
        (0.999, 20, 0.0),
        (0.999, 1, 0.0),
        (0.0, 4_000, 0.0),
    ],
)
def test_decay_is_scaled_down_for_short_trainings(decay, num_steps, expected):
    scaled = scaled_ema_decay(decay, num_steps)
    assert scaled == pytest.approx(expected)
    # The share of the first weights in the average, with room for few steps.
    assert scaled**num_steps < 1e-5 or decay == 0


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="decay must be in"):
        scaled_ema_decay(1.0, 10)
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        scaled_ema_decay(0.5, 0)


@pytest.mark.parametrize(
    ("precision", "kept", "atol"),
    [
        ("32-true", torch.float32, 1e-5),
        ("64-true", torch.float64, 1e-13),
        ("bf16-true", torch.float32, 1e-5),
        ("bf16-mixed", torch.float32, 1e-5),
    ],
)
def test_weights_are_averaged_in_single_precision_at_least(
    module, samples, tmp_path, precision, kept, atol
):
    training = module(epochs=12)  # 24 steps, of a decay of 1/6
    average = Average(scaled_ema_decay(training.recipe.ema_decay, 24))
    data = SurrogateDataModule(samples(4, 0), samples(2, 1), batch_size=2)
    fit(
        training,
        data,
        tmp_path,
        accelerator="cpu",
        progress=False,
        precision=precision,
        callbacks=[average],
    )
    network = type(training.surrogate.model)().to(kept)
    surrogate = load_surrogate(tmp_path / "last.ckpt", network)
    got = torch.nn.utils.parameters_to_vector(surrogate.model.parameters())
    torch.testing.assert_close(got.double(), average.average, atol=atol, rtol=0)
    assert not any(p.is_inference() for p in training.parameters())
