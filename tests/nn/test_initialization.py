import math

import pytest
import torch
from torch import nn

from torch_geometric_flare import FLARE, FLAREConv
from torch_geometric_flare.metrics import relative_l2
from torch_geometric_flare.nn import models

CHOICES = {
    "FLARE": {},
    "FLAREPP": {},
    "Transolver": {},
    "PerceiverIO": {"num_latents": 32},
    "GNOT": {},
    "Transformer": {},
    "FLAREHybrid": {"pos_channels": 3, "radius": 0.1},
    "Linformer": {"num_points": 50},
    "Nystromformer": {},
    "Reformer": {},
}


def network(name, init):
    torch.manual_seed(0)
    return getattr(models, name)(3, 64, 2, num_layers=2, init=init, **CHOICES[name])


def lift_of(model):
    return [m for m in model.lift.modules() if isinstance(m, nn.Linear)]


@pytest.mark.parametrize("name", CHOICES)
def test_the_lift_keeps_the_size_of_the_input(name):
    for linear in lift_of(network(name, "scaled")):
        bound = linear.in_features**-0.5
        assert 0.9 * bound < linear.weight.abs().max() <= bound
        assert not linear.bias.any()
    for linear in lift_of(network(name, "paper")):
        assert 0.015 < linear.weight.std() < 0.025


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("init", ["scaled", "paper"])
def test_reset_draws_the_same_start(name, init):
    model = network(name, init)
    first = {key: p.detach().std() for key, p in model.named_parameters()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7)
    model.reset_parameters()
    for key, parameter in model.named_parameters():
        assert not parameter.eq(7).all(), key
        if parameter.numel() > 500:
            torch.testing.assert_close(parameter.std(), first[key], rtol=0.2, atol=0)


def test_latents_score_normalised_keys_with_unit_deviation():
    x = nn.functional.layer_norm(torch.randn(500, 64), (64,))
    for scale in (1.0, 0.25):
        conv = FLAREConv(64, heads=4, num_latents=256, scale=scale)
        k = conv._keys(x)
        scores = scale * torch.einsum("hmd,nhd->hmn", conv.latents, k)
        assert 0.85 < scores.std() < 1.15


def test_the_first_map_of_an_operator_keeps_the_size_of_few_inputs():
    conv = FLAREConv(2, 64)
    bound = 2**-0.5
    for mlp in (conv.key_mlp, conv.value_mlp):
        assert 0.9 * bound < mlp.layers[0].weight.abs().max() <= bound
        assert mlp.layers[1].weight.std() < 0.025
    published = FLAREConv(2, 64, init="paper")
    assert published.key_mlp.layers[0].weight.abs().max() < 0.1
    torch.manual_seed(0)
    lazy = FLAREConv(-1, 64)
    lazy(torch.randn(5, 2))
    assert 0.9 * bound < lazy.key_mlp.layers[0].weight.abs().max() <= bound


def rank(model, x):
    """Return the least stable rank of the operators, and how much rows differ."""
    ranks, spreads = [], []
    h = model.lift(x)
    for block in model.blocks:
        rows = block.mixer_norm(h)
        gather, scatter = block.mixer.attention_weights(rows)
        ranks.append((gather * scatter).sum((0, 2)).mean().item())
        spreads.append(((rows - rows.mean(0)).norm() / rows.norm()).item())
        h = block(h)
    return min(ranks), min(spreads)


@pytest.mark.parametrize(
    ("width", "depth"), [(32, 2), (32, 16), (64, 4), (64, 16), (256, 2), (256, 8)]
)
def test_operators_start_with_several_eigenvalues(width, depth):
    torch.manual_seed(1)
    x = torch.rand(400, 2) * 2 - 1
    torch.manual_seed(0)
    scaled = FLARE(2, width, 1, num_layers=depth)
    torch.manual_seed(0)
    paper = FLARE(2, width, 1, num_layers=depth, init="paper")
    found, spread = rank(scaled, x)
    assert found > 1.3 and spread > 0.5
    plateau, flat = rank(paper, x)
    assert plateau - 1 < 0.4 * (found - 1) and flat < 0.95 * spread


@pytest.mark.parametrize(("width", "depth"), [(32, 16), (64, 2), (64, 16), (256, 4)])
def test_gradients_reach_all_blocks(width, depth):
    torch.manual_seed(0)
    model = FLARE(2, width, 1, num_layers=depth)
    x = torch.rand(300, 2) * 2 - 1
    y = 1 + torch.sin(3 * x[:, :1]) * x[:, 1:]
    relative_l2(model(x), y).mean().backward()
    norms = [
        math.sqrt(sum(float(p.grad.norm() ** 2) for p in block.parameters()))
        for block in model.blocks
    ]
    assert min(norms) > max(norms) / 200


@pytest.mark.parametrize("build", [FLARE, models.Transolver])
def test_an_unknown_start_is_refused(build):
    with pytest.raises(ValueError, match="init is 'xavier'"):
        build(2, 8, 1, heads=2, init="xavier")
