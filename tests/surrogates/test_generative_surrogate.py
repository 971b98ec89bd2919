import copy

import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data

from torch_geometric_flare import FLARE
from torch_geometric_flare.fields import Field
from torch_geometric_flare.surrogates import (
    GenerativeSurrogate,
    QuerySurrogate,
    Surrogate,
    load_surrogate,
    save_surrogate,
)
from torch_geometric_flare.surrogates.noise import NUM_WAVES
from torch_geometric_flare.transforms import Normalizer


def make_surrogate(model=None, **changes):
    torch.manual_seed(0)
    if model is None:
        model = FLARE(
            *(6, 8, 2, 2, 2, 5, 1, 1),
            condition_channels=2,
            condition_octaves=2,
            latent_conditions=True,
        )
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)
    given = {
        "fields": [Field("velocity", 2, "m/s")],
        "features": [Field("wall"), Field("wall_known")],
        "conditions": [Field("speed")],
        "condition_normalizer": Normalizer([3.0], [2.0]),
        "noise_length": 0.3,
    }
    return GenerativeSurrogate(
        model,
        Normalizer([20.0, 5.0], [7.0, 2.0]),
        Normalizer.from_bounds([0.0] * 2, [4.0] * 2),
        "simulated things",
        **{**given, **changes},
    )


def sample(seed=0, points=30):
    generator = torch.Generator().manual_seed(seed)
    return Data(
        pos=4 * torch.rand(points, 2, generator=generator),
        wall=torch.rand(points, 1, generator=generator),
        wall_known=torch.ones(points, 1),
        u=torch.tensor([[2.0 + seed]]),
        y=torch.rand(points, 2, generator=generator),
    )


class Still(nn.Module):
    """A velocity of zero: a draw is its noise."""

    def __init__(self):
        super().__init__()
        self.zero = nn.Parameter(torch.zeros(1))

    def forward(self, x, u=None):
        return self.zero * x[:, -1:]


def still(**changes):
    return GenerativeSurrogate(
        Still(), Normalizer.identity(1), Normalizer.identity(2), **changes
    )


def test_a_draw_is_the_midpoint_rule_from_noise():
    surrogate, data = make_surrogate(), sample()
    found = surrogate.sample(data, 2, num_steps=3, seed=5)
    assert found.shape == (2, 30, 2)
    x = torch.cat([data.pos / 4, data.wall, data.wall_known], dim=1)
    speed = (data.u - 3) / 2

    def velocity(state, time):
        u = torch.cat([speed, torch.tensor([[2 * time - 1]])], dim=1)
        return surrogate.model(torch.cat([x, state], dim=1), u=u)

    nothing = make_surrogate(velocity_of_zero(surrogate.model))
    state = (nothing.sample(data, 2, seed=5)[1] - torch.tensor([20.0, 5.0])) / (
        torch.tensor([7.0, 2.0])
    )
    with torch.no_grad():
        for i in range(3):
            middle = state + velocity(state, i / 3) / 6
            state = state + velocity(middle, i / 3 + 1 / 6) / 3
    expected = state * torch.tensor([7.0, 2.0]) + torch.tensor([20.0, 5.0])
    torch.testing.assert_close(found[1], expected, atol=1e-4, rtol=1e-5)


def velocity_of_zero(model):
    model = copy.deepcopy(model)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


def test_a_draw_depends_on_seed_number_and_sample_alone():
    surrogate = make_surrogate().double()
    samples = [sample(i, 20 + 7 * i) for i in range(3)]
    alone = [surrogate.sample(s, 3, num_steps=2, seed=1) for s in samples]
    together = surrogate.sample(Batch.from_data_list(samples), 5, num_steps=2, seed=1)
    torch.testing.assert_close(together[:3], torch.cat(alone, dim=1))
    assert torch.equal(surrogate.sample(samples[0], 3, num_steps=2, seed=1), alone[0])
    other = surrogate.sample(samples[0], 3, num_steps=2, seed=2)
    first = alone[0]
    assert not torch.allclose(first, other)
    assert not torch.allclose(first[0], first[1])


def test_chunks_and_the_order_of_points_change_nothing():
    surrogate, data = make_surrogate().double(), sample()
    expected = surrogate.sample(data, 2, num_steps=2)
    order = torch.randperm(30)
    moved = Data(u=data.u, **{k: v[order] for k, v in data if k != "u"})
    found = surrogate.sample(moved, 2, num_steps=2)
    torch.testing.assert_close(found, expected[:, order])
    surrogate.model.chunk_size = 7
    torch.testing.assert_close(surrogate.sample(data, 2, num_steps=2), expected)


def test_the_random_numbers_of_the_caller_stay():
    surrogate, before = make_surrogate(), torch.get_rng_state()
    surrogate.sample(sample(), 1, num_steps=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_noise_is_a_gaussian_field_of_unit_variance():
    pos = torch.tensor([[0.0, 0.0], [0.0, 0.02], [0.1, 0.0], [0.0, 0.1], [3.0, 2.0]])
    weights = torch.randn(1, 2 * NUM_WAVES, 5000)  # 5,000 fields
    draws = still(noise_length=0.1).noise(pos, weights)
    covariance = draws @ draws.T / 5000
    assert (covariance.diagonal() - 1).abs().max() < 0.12
    distance = 3**0.5 * torch.cdist(pos, pos)[0] / 0.1
    matern = (1 + distance) * (-distance).exp()
    assert (covariance[0] - matern).abs().max() < 0.12
    assert draws.mean(1).abs().max() < 0.06


def test_a_finer_mesh_refines_the_same_draw():
    line = torch.linspace(0, 1, 21)
    fine = torch.cartesian_prod(line, line)
    coarse = fine.view(21, 21, 2)[::4, ::4].reshape(-1, 2)
    y, z = (still().sample(pos, 2, num_steps=1) for pos in (fine, coarse))
    torch.testing.assert_close(
        y.view(2, 21, 21, 1)[:, ::4, ::4].reshape(z.shape), z, atol=1e-5, rtol=1e-5
    )


def test_the_prediction_is_the_mean_of_32_draws():
    surrogate, data = make_surrogate(), sample()
    expected = surrogate.sample(data).mean(0)
    torch.testing.assert_close(surrogate.predict(data), expected)
    truths = [sample(i) for i in range(9)]
    assert surrogate.calibrate(truths).num_samples == 9
    assert surrogate.band(data).shape == (30, 2)
    with pytest.raises(ValueError, match="members"):
        surrogate.calibrate(truths, members=[surrogate])


def test_guard_of_the_geometry():
    surrogate = make_surrogate()
    batch = Batch.from_data_list([sample(0), sample(1)])
    assert surrogate.summary(batch).shape == (2, 2 * 8 + 1)


def test_guard_names_a_condition_out_of_range():
    surrogate, samples = make_surrogate(), [sample(seed) for seed in range(6)]
    surrogate.fit_guard(samples)
    assert surrogate.judge(sample(3)).out_of_range == ()
    beyond = sample(3)
    beyond.u = torch.tensor([[40.0]])
    (text,) = surrogate.judge(beyond).out_of_range
    assert text.startswith("speed is 40")
    summary = surrogate.predict_with_summary(beyond)[1]
    assert torch.equal(summary, surrogate.summary(beyond))


@pytest.mark.parametrize("way", ["file", "folder"])
def test_round_trips(way, tmp_path):
    surrogate, data = make_surrogate(), sample()
    if way == "file":
        save_surrogate(surrogate, tmp_path / "a.ckpt")
        loaded = load_surrogate(tmp_path / "a.ckpt")
    else:
        pytest.importorskip("safetensors")
        surrogate.save_pretrained(tmp_path)
        loaded = GenerativeSurrogate.from_pretrained(tmp_path)
        for kind in (Surrogate, QuerySurrogate):
            with pytest.raises(ValueError, match="Generative|query points"):
                kind.from_pretrained(tmp_path)
    assert type(loaded) is GenerativeSurrogate and loaded.noise_length == 0.3
    found = loaded.sample(data, 2, num_steps=2)
    assert torch.equal(found, surrogate.eval().sample(data, 2, num_steps=2))


def test_a_plain_surrogate_does_not_draw(tmp_path):
    pytest.importorskip("safetensors")
    Surrogate(FLARE(2, 8, 1, 1, 2), Normalizer.identity(1)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="Surrogate"):
        GenerativeSurrogate.from_pretrained(tmp_path)


def test_wrong_arguments():
    surrogate, data = make_surrogate(), sample()
    for name in ("num_draws", "num_steps"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1"):
            surrogate.sample(data, **{name: 0})
    with pytest.raises(ValueError, match="seed must be at least 0"):
        surrogate.sample(data, seed=-1)
    for length in (0.0, -1.0, float("inf")):
        with pytest.raises(ValueError, match=f"noise_length is {length}"):
            make_surrogate(noise_length=length)
    with pytest.raises(ValueError, match="condition_channels=1"):
        make_surrogate(FLARE(6, 8, 2, 1, 2, condition_channels=1))
    narrow = make_surrogate(FLARE(5, 8, 2, 1, 2, condition_channels=2))
    with pytest.raises(ValueError, match="in_channels=6"):
        narrow.sample(data)
    without = copy.copy(data)
    without.x = torch.rand(30, 4)
    del without.pos
    with pytest.raises(ValueError, match="pos"):
        surrogate.sample(without)
    with pytest.raises(TypeError, match="data is None"):
        surrogate.sample(None)
    rows, gap = sample(), sample()
    rows.u = torch.rand(2, 1)
    with pytest.raises(ValueError, match="u has 2 rows"):
        surrogate.sample(rows)
    gap.wall[7] = torch.nan
    with pytest.raises(ValueError, match="wall has .* point 7"):
        surrogate.sample(gap)
    with pytest.raises(ValueError, match="takes no u"):
        make_surrogate(nn.Linear(6, 2))


def test_autocast_does_not_round_the_noise():
    pos = 40 * torch.rand(50, 2, generator=torch.Generator().manual_seed(0))
    expected = still().sample(pos, 2, num_steps=1)
    with torch.autocast("cpu", torch.bfloat16):
        found = still().sample(pos, 2, num_steps=1)
    torch.testing.assert_close(found, expected)
