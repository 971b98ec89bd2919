import math
import re
from functools import partial

import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data

from torch_geometric_flare import FLARE
from torch_geometric_flare.fields import Field
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.surrogates import (
    GenerativeSurrogate,
    Surrogate,
    load_surrogate,
    save_surrogate,
)
from torch_geometric_flare.training import (
    GenerativeModule,
    SurrogateDataModule,
    SurrogateModule,
    fit,
    read_history,
)
from torch_geometric_flare.transforms import HideFeature, Normalizer

QUIET = {"accelerator": "cpu", "progress": False}
SIZES = {"hidden_channels": 8, "num_layers": 1, "heads": 2, "num_latents": 4}


def make_module(noise_length=0.5, model=None, **changes):
    torch.manual_seed(0)
    recipe = {"epochs": 2, "batch_size": 2, "model": SIZES} | changes
    recipe = Recipe(model_class=FLARE if model is None else type(model), **recipe)
    if model is None:
        model = recipe.build(5, 1, condition_channels=1)
    return GenerativeModule(
        model,
        Normalizer([1.0], [2.0]),
        Normalizer.from_bounds([0.0] * 2, [1.0] * 2),
        recipe,
        "a simulated field",
        noise_length=noise_length,
        fields=[Field("height")],
        features=[Field("depth"), Field("depth_known")],
    )


def samples(number=5):
    generator = torch.Generator().manual_seed(0)
    draw = partial(torch.rand, generator=generator)
    return [
        Data(pos=draw(n, 2), depth=draw(n, 1), y=draw(n, 1))
        for n in range(4, 4 + number)
    ]


def data_of(**given):
    return SurrogateDataModule(
        samples(), batch_size=2, train_transform=HideFeature("depth", 0.5), **given
    )


class Exact(nn.Module):
    """The velocity of one field that is known: (y - y_t) / (1 - t)."""

    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, x, batch, u=None):
        time = (u[batch] + 1) / 2
        return (self.value - x[:, -1:]) / (1 - time)


def with_network(network):
    return GenerativeModule(
        network,
        Normalizer([1.0], [2.0]),
        Normalizer.from_bounds([0.0] * 2, [1.0] * 2),
        fields=[Field("height")],
    )


def test_the_loss_is_zero_for_the_velocity_of_the_path():
    batch = Batch.from_data_list(
        [Data(pos=torch.rand(n, 2), y=torch.full((n, 1), 4.0)) for n in (3, 50)]
    )
    for module in (with_network(Exact(1.5)), with_network(Exact(1.5)).eval()):
        assert module.measure(module(batch), batch)["loss"] < 1e-6
        found = module.surrogate.sample(batch, 2, num_steps=3)
        assert found.shape == (2, 53, 1)


def test_samples_count_alike_whatever_their_size():
    module = make_module()
    batch = Batch.from_data_list(samples(3))
    errors = torch.randn(len(batch.batch), 1)
    means = [errors[batch.batch == g].square().mean() for g in range(3)]
    expected = torch.stack(means).mean()
    assert module.measure(errors, batch)["loss"].item() == pytest.approx(expected)
    one = errors[batch.batch == 1]
    assert module.loss(one, samples(3)[1]).item() == pytest.approx(means[1].item())


def test_noise_is_new_in_training_and_fixed_in_validation():
    module = make_module()
    batch = Batch.from_data_list([HideFeature("depth", 0.5)(d) for d in samples()])
    module.eval()
    assert torch.equal(module(batch), module(batch))
    module.train()
    torch.manual_seed(1)
    first = module(batch)
    assert not torch.equal(first, module(batch))
    torch.manual_seed(1)
    assert torch.equal(module(batch), first)


def test_a_training_that_is_killed_resumes_to_the_same_bits(tmp_path):
    whole = fit(make_module(epochs=3), data_of(), tmp_path / "whole", **QUIET)
    module = make_module(epochs=3)

    def stop(*_):
        if module.current_epoch == 1:
            raise InterruptedError("killed")

    module.on_train_batch_end = stop
    with pytest.raises(InterruptedError, match="killed"):
        fit(module, data_of(), tmp_path / "cut", **QUIET)
    resumed = fit(
        make_module(epochs=3), data_of(), tmp_path / "cut", resume=True, **QUIET
    )
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    assert type(whole) is GenerativeSurrogate and whole.noise_length == 0.5
    with pytest.raises(ValueError, match="noise_length"):
        fit(
            make_module(0.4, epochs=3),
            data_of(),
            tmp_path / "cut",
            resume=True,
            **QUIET,
        )


def test_logs_the_loss_and_loads_again(tmp_path):
    val = [HideFeature("depth", 0.5)(d) for d in samples(2)]
    surrogate = fit(make_module(), data_of(val=val), tmp_path, **QUIET)
    history = read_history(tmp_path)
    assert {"train_loss", "val_loss"} <= set(history)
    assert not any("relative" in name for name in history)
    loaded = load_surrogate(tmp_path / "last.ckpt")
    again = GenerativeModule.load_from_checkpoint(tmp_path / "last.ckpt")
    expected = surrogate.sample(val[0], 2, num_steps=2)
    for other in (loaded, again.surrogate):
        assert torch.equal(other.sample(val[0], 2, num_steps=2), expected)
    assert again.surrogate.noise_length == 0.5


def test_checkpoints_of_other_modules_name_the_class(tmp_path):
    fit(make_module(), data_of(), tmp_path, **QUIET)
    with pytest.raises(ValueError, match="GenerativeModule.load_from_checkpoint"):
        SurrogateModule.load_from_checkpoint(tmp_path / "last.ckpt")
    plain = Surrogate(FLARE(2, 8, 1, 1, 2), Normalizer.identity(1))
    save_surrogate(plain, tmp_path / "plain.ckpt")
    with pytest.raises(ValueError, match="SurrogateModule.load_from_checkpoint"):
        GenerativeModule.load_from_checkpoint(tmp_path / "plain.ckpt")


def test_gaps_in_a_field_are_named(tmp_path):
    val = [HideFeature("depth", 0.5)(sample) for sample in samples()]
    val[3].y[2] = torch.nan
    data = SurrogateDataModule(
        samples(), val, batch_size=2, train_transform=HideFeature("depth", 0.5)
    )
    with pytest.raises(RuntimeError, match="y has .* point 2 in sample 3 of val"):
        fit(make_module(), data, tmp_path, **QUIET)


def test_what_is_refused():
    with pytest.raises(ValueError, match="derivative_weight is 0.1"):
        make_module(derivative_weight=0.1)
    module, (data, *_) = make_module(), samples(1)
    del data.y
    with pytest.raises(ValueError, match="y"):
        module(data)
    for y in (torch.arange(4).view(4, 1), torch.ones(4, 1) > 0, [1.0] * 4):
        data.y = y
        with pytest.raises(ValueError, match="y is"):
            module(data)
    for shape in [(4,), (4, 2), (3, 1)]:
        data.y = torch.ones(shape)
        with pytest.raises(ValueError, match=re.escape(str(shape))):
            module(data)
    with pytest.raises(ValueError, match="processes"):
        module(samples(1)[0].update({"group": object()}))
    with pytest.raises(ValueError, match="query"):
        GenerativeModule(Exact(0.0), Normalizer.identity(1), query=object())


@pytest.mark.slow
def test_draws_have_the_mean_and_the_spread_of_the_truth(tmp_path):
    """Of a level y = s + 0.5 z with normal z, the slope s known at half the samples."""
    generator = torch.Generator().manual_seed(0)

    def case(known):
        slope, z = torch.randn(2, generator=generator)
        pos = torch.rand(8, 1, generator=generator)
        shown = torch.tensor([[slope if known else 0.0, known]]).expand(8, 2)
        y = (slope + 0.5 * z) * torch.ones(8, 1)
        return Data(pos=pos, slope=shown[:, :1], slope_known=shown[:, 1:], y=y)

    train = [case(float(i % 2)) for i in range(2000)]
    recipe = Recipe(
        model_class=FLARE,
        model={"hidden_channels": 32, "num_layers": 2, "heads": 4, "num_latents": 8}
        | {"kv_layers": 1, "mlp_layers": 1}
        | {"condition_octaves": 3, "latent_conditions": True},
        epochs=30,
        batch_size=100,
        learning_rate=3e-3,
    )
    torch.manual_seed(0)
    module = GenerativeModule(
        recipe.build(4, 1, condition_channels=1),
        Normalizer.gaussian(d.y for d in train),
        Normalizer.identity(1),
        recipe,
        noise_length=10.0,
        features=[Field("slope"), Field("slope_known")],
    )
    data = SurrogateDataModule(train, batch_size=100)
    surrogate = fit(module, data, tmp_path, **QUIET)
    cases = [(0.0, 1.0), (1.0, 1.0), (-1.0, 1.0), (0.0, 0.0)]  # slope, known
    means = torch.tensor([slope for slope, _ in cases])
    deviations = torch.tensor([0.5, 0.5, 0.5, math.sqrt(1.25)])
    shown = torch.tensor(cases).view(4, 2, 1, 1).expand(4, 2, 8, 1)
    pos = torch.linspace(0, 1, 8).unsqueeze(1)
    batch = Batch.from_data_list(
        [Data(pos=pos, slope=slope, slope_known=known) for slope, known in shown]
    )
    levels = surrogate.sample(batch, 200).view(200, 4, 8).mean(2)
    torch.testing.assert_close(levels.mean(0), means, atol=0.2, rtol=0)
    torch.testing.assert_close(levels.std(0), deviations, atol=0, rtol=0.25)
    low, high = levels.quantile(torch.tensor([0.05, 0.95]), dim=0)
    truth = torch.distributions.Normal(means, deviations)
    coverage = truth.cdf(high) - truth.cdf(low)
    torch.testing.assert_close(coverage, torch.full((4,), 0.9), atol=0.12, rtol=0)
