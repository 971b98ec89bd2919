import pytest

from torch_geometric_flare.training import scaled_ema_decay


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
