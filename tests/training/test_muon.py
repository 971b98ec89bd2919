import copy
import math

import pytest
import torch
from torch import nn

from torch_geometric_flare import FLARE
from torch_geometric_flare.nn import GNOT, LNO, DeepONet, MeshGraphNet
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.training import MuonAdamW, hidden_matrices
from torch_geometric_flare.training.optimizer import build_optimizer, orthogonalize

MUON = getattr(torch.optim, "Muon", None)


@pytest.mark.parametrize("shape", [(6, 6), (3, 9), (9, 3), (1, 4), (64, 64)])
def test_singular_values_become_one_and_vectors_stay(shape):
    matrices = torch.randn(4, *shape, dtype=torch.float64) * 1e-3
    found = orthogonalize(matrices)
    u, s, vt = torch.linalg.svd(matrices, full_matrices=False)
    inner = u.mT @ found @ vt.mT
    assert found.dtype == torch.float64
    diagonal = inner.diagonal(dim1=1, dim2=2)
    off = inner - torch.diag_embed(diagonal)
    assert off.abs().max() < 1e-9
    large = s > 0.05 * s[:, :1]
    assert diagonal[large].min() > 0.5 and diagonal[large].max() < 1.3


def test_a_batch_equals_its_matrices_and_zero_stays_zero():
    matrices = torch.randn(5, 8, 4)
    matrices[2] = 0
    alone = torch.cat([orthogonalize(matrix[None]) for matrix in matrices])
    torch.testing.assert_close(orthogonalize(matrices), alone)
    assert not orthogonalize(matrices)[2].any()


def definition(weight, gradients, lr, momentum, decay):
    """Muon by its definition, one matrix at a time, in double precision."""
    weight, average = weight.double(), torch.zeros_like(weight.double())
    for gradient in gradients:
        average = momentum * average + (1 - momentum) * gradient.double()
        ahead = momentum * average + (1 - momentum) * gradient.double()
        update = orthogonalize(ahead[None])[0]
        factor = math.sqrt(max(1, weight.size(0) / weight.size(1)))
        weight = (1 - lr * decay) * weight - lr * factor * update
    return weight


def test_steps_equal_their_definition():
    torch.manual_seed(0)
    weights = [torch.randn(s) for s in ((4, 6), (9, 3), (4, 6), (3, 3))]
    gradients = [[torch.randn_like(w) for w in weights] for _ in range(3)]
    parameters = [nn.Parameter(w.clone()) for w in weights]
    optimizer = MuonAdamW(
        [{"params": parameters, "muon": True, "lr": 0.1, "weight_decay": 0.5}],
        momentum=0.9,
    )
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    for place, parameter in enumerate(parameters):
        steps = [step[place] for step in gradients]
        expected = definition(weights[place], steps, 0.1, 0.9, 0.5)
        torch.testing.assert_close(parameter.double(), expected, atol=1e-4, rtol=0)


@pytest.mark.skipif(MUON is None, reason="torch.optim.Muon came with torch 2.9")
def test_steps_are_those_of_torch_up_to_its_rounding():
    torch.manual_seed(0)
    ours, theirs = (nn.Linear(24, 8, bias=False) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    start = ours.weight.detach().clone()
    mine = MuonAdamW([{"params": [ours.weight], "muon": True, "lr": 0.1}])
    other = MUON([theirs.weight], lr=0.1, momentum=0.95, weight_decay=0.0)
    for _ in range(3):
        ours.weight.grad = torch.randn(8, 24)
        theirs.weight.grad = ours.weight.grad.clone()
        mine.step()
        other.step()
    moved = theirs.weight - start
    assert (ours.weight - theirs.weight).norm() < 0.02 * moved.norm()


def test_other_groups_take_the_steps_of_adamw():
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    theirs = copy.deepcopy(ours)
    mine = MuonAdamW(
        [{"params": list(ours.parameters()), "weight_decay": 0.1}], lr=1e-2
    )
    other = torch.optim.AdamW(theirs.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(4):
        x = torch.randn(5, 3)
        for model, optimizer in ((ours, mine), (theirs, other)):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-7)


def test_a_complex_parameter_takes_the_step_of_adamw():
    parameter = nn.Parameter(torch.randn(3, dtype=torch.complex64))
    other = nn.Parameter(parameter.detach().clone())
    gradient = torch.randn(3, dtype=torch.complex64)
    parameter.grad, other.grad = gradient.clone(), gradient.clone()
    MuonAdamW([{"params": [parameter]}], lr=0.1).step()
    torch.optim.AdamW([other], lr=0.1, weight_decay=0.0).step()
    torch.testing.assert_close(parameter, other)


def test_the_state_continues_to_the_same_bits():
    torch.manual_seed(0)
    model = FLARE(3, 16, 1, num_layers=2, heads=2, num_latents=4)
    recipe = Recipe(model_class=FLARE, optimizer="muon")

    def train(model, optimizer, steps):
        for step in steps:
            x = torch.rand(20, 3, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            (model(x) - x.sum(1, keepdim=True)).square().mean().backward()
            optimizer.step()

    optimizer = build_optimizer(model, recipe)
    train(model, optimizer, range(3))
    resumed, state = copy.deepcopy(model), copy.deepcopy(optimizer.state_dict())
    train(model, optimizer, range(3, 6))
    again = build_optimizer(resumed, recipe)
    again.load_state_dict(state)
    train(resumed, again, range(3, 6))
    for p, q in zip(model.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_parameter_without_a_gradient_stays():
    used, unused = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    used.grad = torch.eye(2)
    MuonAdamW([{"params": [used, unused], "muon": True}], lr=0.1).step()
    assert torch.equal(unused.detach(), torch.ones(2, 2))
    assert not torch.equal(used.detach(), torch.ones(2, 2))


def test_one_rate_moves_all_widths_by_one_spectral_norm():
    for width in (16, 64, 128):
        weight = nn.Parameter(torch.zeros(width, width))
        weight.grad = torch.randn(width, width)
        MuonAdamW([{"params": [weight], "muon": True, "lr": 0.1}]).step()
        assert 0.08 < torch.linalg.matrix_norm(weight.detach(), 2) < 0.13


@pytest.mark.parametrize(
    ("parameter", "named"),
    [(torch.ones(3), r"\[3\]"), (torch.ones(2, 2, dtype=torch.complex64), "complex64")],
)
def test_what_is_no_real_matrix_is_refused(parameter, named):
    with pytest.raises(ValueError, match=named):
        MuonAdamW([{"params": [nn.Parameter(parameter)], "muon": True}])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"lr": -1.0}, "lr"),
        ({"momentum": 1.0}, "momentum"),
        ({"betas": (0.9, 1.5)}, "betas"),
        ({"weight_decay": -0.1}, "weight_decay"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, named):
    with pytest.raises(ValueError, match=named):
        MuonAdamW([{"params": [nn.Parameter(torch.ones(2, 2))]}], **arguments)


def names_of(model):
    names = {id(p): name for name, p in model.named_parameters()}
    return [names[id(p)] for p in hidden_matrices(model)]


def test_hidden_matrices_are_those_inside_blocks():
    model = FLARE(3, 8, 1, num_layers=1, heads=2, kv_layers=-1, mlp_layers=-1)
    assert names_of(model) == [
        "blocks.0.mixer.key_mlp.layers.0.weight",
        "blocks.0.mixer.value_mlp.layers.0.weight",
        "blocks.0.mixer.out.weight",
        "blocks.0.feed_forward.layers.0.weight",
    ]
    model.blocks[0].mixer.requires_grad_(False)
    assert names_of(model) == ["blocks.0.feed_forward.layers.0.weight"]


def test_maps_of_the_input_are_left_out_wherever_they_stand():
    gnot = names_of(GNOT(3, 8, 1, num_layers=1, heads=2))
    assert gnot and not any("gate" in name for name in gnot)
    lno = names_of(LNO(3, 8, 1, num_layers=1, heads=2, num_modes=4))
    assert lno and not any("trunk" in n or "branch" in n for n in lno)
    assert any("score" in name for name in lno)
    mesh = names_of(MeshGraphNet(3, 8, 1, num_layers=1, edge_channels=3))
    assert mesh and all(name.startswith("layers.") for name in mesh)


def test_a_network_without_hidden_matrices_is_refused():
    model = DeepONet(3, 8, 1, num_points=5)
    recipe = Recipe(model_class=DeepONet, optimizer="muon")
    with pytest.raises(ValueError, match="DeepONet"):
        build_optimizer(model, recipe)


def test_each_parameter_is_in_one_group_with_its_rate():
    model = FLARE(3, 8, 1, num_layers=2, heads=2)
    recipe = Recipe(model_class=FLARE, optimizer="muon", learning_rate=2e-3)
    groups = build_optimizer(model, recipe).param_groups
    assert [group["muon"] for group in groups] == [True, False, False]
    assert [group["lr"] for group in groups] == [2e-2, 2e-3, 2e-3]
    listed = [id(p) for group in groups for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in model.parameters())
