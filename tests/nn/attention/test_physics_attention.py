import copy
import inspect
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import gelu, layer_norm, linear

from torch_geometric_flare import PointBatch
from torch_geometric_flare.nn import ResidualBlock
from torch_geometric_flare.nn.attention import PhysicsAttention
from torch_geometric_flare.testing import (
    assert_batch_invariant,
    assert_permutation_equivariant,
    assert_same_function,
)

GOLDEN = Path(__file__).parents[2] / "data" / "transolver.npz"
# Names of the reference and ours.
NAMES = {
    "in_project_x": "point",
    "in_project_fx": "feature",
    "in_project_slice": "slice",
    "to_q": "query",
    "to_k": "key",
    "to_v": "value",
    "to_out.0": "out",
}


def attention_of(*args, **kwargs):
    """With parameters large enough for slices and attention to be far from uniform."""
    module = PhysicsAttention(*args, **kwargs).double()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name != "temperature":
                parameter.normal_(std=0.7)
        module.temperature.copy_(torch.linspace(0.3, 0.9, module.heads))
    return module


def transcription(module, x):
    """The formulas for a single graph, one head and one slice after another."""
    heads, width = module.heads, module.head_channels
    p = (x @ module.point.weight.T + module.point.bias).view(-1, heads, width)
    f = (x @ module.feature.weight.T + module.feature.bias).view(-1, heads, width)
    out = []
    for h in range(heads):
        logits = p[:, h] @ module.slice.weight.T + module.slice.bias
        exp = (logits / module.temperature[h]).exp()
        w = exp / exp.sum(1, keepdim=True)
        tokens = torch.stack(
            [
                (w[:, g, None] * f[:, h]).sum(0) / (w[:, g].sum() + 1e-5)
                for g in range(module.num_slices)
            ]
        )
        q, k, v = (
            tokens @ m.weight.T for m in (module.query, module.key, module.value)
        )
        exp = (q @ k.T * width**-0.5).exp()
        out.append(w @ (exp / exp.sum(1, keepdim=True) @ v))
    return torch.cat(out, 1) @ module.out.weight.T + module.out.bias


@pytest.mark.parametrize(
    ("options", "points"),
    [
        ({"channels": 8, "heads": 2, "num_slices": 5}, 63),
        ({"channels": 6, "heads": 3, "num_slices": 1, "head_channels": 5}, 1),
        ({"channels": 4, "heads": 1, "num_slices": 9}, 500),
    ],
)
def test_formula(options, points):
    module = attention_of(**options)
    x = torch.randn(points, options["channels"], dtype=torch.float64)
    assert_same_function(module, lambda x: transcription(module, x), [x])
    grads = [
        torch.autograd.grad(f(x).square().sum(), list(module.parameters()))
        for f in (module, lambda x: transcription(module, x))
    ]
    for found, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-9, rtol=1e-9)


def transolver(state, x, batch):
    """The reference network, built around our attention."""

    def mlp(x, name):
        x = linear(x, state[f"{name}.linear_pre.0.weight"], pre_bias(name))
        post = f"{name}.linear_post"
        return linear(gelu(x), state[f"{post}.weight"], state[f"{post}.bias"])

    def pre_bias(name):
        return state[f"{name}.linear_pre.0.bias"]

    def norm(x, name):
        return layer_norm(
            x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"]
        )

    x = mlp(x, "preprocess") + state["placeholder"]
    for number in range(2):
        block = f"blocks.{number}"
        attention = PhysicsAttention(16, heads=2, num_slices=4).double()
        own = {"temperature": state[f"{block}.Attn.temperature"].flatten()}
        for theirs, ours in NAMES.items():
            for kind in ("weight", "bias"):
                if f"{block}.Attn.{theirs}.{kind}" in state:
                    own[f"{ours}.{kind}"] = state[f"{block}.Attn.{theirs}.{kind}"]
        attention.load_state_dict(own)
        x = x + attention(norm(x, f"{block}.ln_1"), batch)
        x = x + mlp(norm(x, f"{block}.ln_2"), f"{block}.mlp")
    x = norm(x, "blocks.1.ln_3")
    return linear(x, state["blocks.1.mlp2.weight"], state["blocks.1.mlp2.bias"])


def test_inside_transolver_it_gives_what_the_reference_gives():
    with np.load(GOLDEN) as file:
        arrays = {name: torch.from_numpy(file[name]) for name in file}
    state = {
        name.removeprefix("state/"): value
        for name, value in arrays.items()
        if name.startswith("state/")
    }
    x = arrays["x"].flatten(0, 1).requires_grad_()
    y = transolver(state, x, torch.arange(2).repeat_interleave(40))
    weights = torch.cos(torch.arange(y.numel(), dtype=torch.float64)).view_as(y)
    (dx,) = torch.autograd.grad((y * weights).sum(), x)
    expected = arrays["y"].flatten(0, 1), arrays["dx"].flatten(0, 1)
    torch.testing.assert_close((y, dx), expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(
    "sizes",
    [(1, 2, 63, 0, 500, 5000), (7, 7, 7), (0, 0, 3), (300,), (10, 900, 20, 905)],
)
def test_batch_invariant(sizes):
    # Sums over thousands of points of unit size: gradients of order 1e3.
    assert_batch_invariant(attention_of(8, heads=2, num_slices=5), 8, sizes, atol=1e-9)


def test_permutation_equivariant():
    x = torch.randn(63, 8, dtype=torch.float64)
    batch = torch.tensor([0] * 20 + [1] * 43)
    assert_permutation_equivariant(attention_of(8, heads=2, num_slices=5), x, batch)


def test_a_layout_made_before():
    module = attention_of(8, heads=2, num_slices=5)
    x = torch.randn(1263, 8, dtype=torch.float64)
    batch = torch.arange(3).repeat_interleave(torch.tensor([1000, 63, 200]))
    layout = PointBatch.from_batch(x, batch)
    assert layout.order is not None or len(layout.dense_batches) > 1
    y = layout.unsort(module(layout.sort(x), layout))
    torch.testing.assert_close(y, module(x, batch))
    block = ResidualBlock(8, module, nn.Identity()).double()
    torch.testing.assert_close(
        layout.unsort(block(layout.sort(x), layout)), block(x, batch)
    )


def test_no_points():
    module = attention_of(8, heads=2, num_slices=5)
    assert module(torch.empty(0, 8, dtype=torch.float64)).shape == (0, 8)
    batch = torch.empty(0, dtype=torch.long)
    assert module(torch.empty(0, 8, dtype=torch.float64), batch, 3).shape == (0, 8)


def test_gradgradcheck():
    module = attention_of(2, heads=1, num_slices=2)
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    batch = torch.tensor([0, 1, 1])
    assert torch.autograd.gradcheck(module, (x, batch))
    assert torch.autograd.gradgradcheck(module, (x, batch))


@pytest.mark.slow
def test_compile_without_graph_break():
    module = PhysicsAttention(8, heads=2, num_slices=5)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager", dynamic=True)
    for points in (40, 63):
        x = torch.randn(points, 8)
        torch.testing.assert_close(compiled(x), module(x))


def test_initial_parameters():
    module = PhysicsAttention(64, heads=8, num_slices=32, init="paper")
    before = {name: p.clone() for name, p in module.named_parameters()}
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(9.0)
    module.reset_parameters()
    for name, parameter in module.named_parameters():
        assert parameter.ne(9.0).all(), name
        assert parameter.shape == before[name].shape
    assert module.temperature.tolist() == [0.5] * 8
    weight = module.slice.weight.detach()
    torch.testing.assert_close(weight.T @ weight, torch.eye(8), atol=1e-5, rtol=0)
    assert 0.018 < module.point.weight.std() < 0.022
    assert module.point.bias.eq(0).all()


def test_shared_maps_and_their_count():
    module = PhysicsAttention(64, heads=8, num_slices=32, init="paper")
    # Three maps of 64 by 64, one of 8 by 32, three of 8 by 8, temperatures.
    assert sum(p.numel() for p in module.parameters()) == (
        3 * (64 * 64 + 64) + (8 * 32 + 32) + 3 * 8 * 8 + 8
    )


def test_copies_and_arguments():
    module = attention_of(12, heads=3, num_slices=7, head_channels=5)
    x = torch.randn(9, 12, dtype=torch.float64)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(x), module(x))
    names = inspect.signature(PhysicsAttention).parameters
    rebuilt = PhysicsAttention(**{name: getattr(module, name) for name in names})
    rebuilt.double().load_state_dict(module.state_dict())
    assert torch.equal(rebuilt(x), module(x))


def test_repr():
    module = PhysicsAttention(16, heads=4, num_slices=32)
    assert str(module) == "PhysicsAttention(16, heads=4, num_slices=32)"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PhysicsAttention(10, heads=4), "heads=4"),
        (lambda: PhysicsAttention(8, heads=0), "heads is 0"),
        (lambda: PhysicsAttention(8, num_slices=0), "num_slices is 0"),
        (lambda: PhysicsAttention(8, head_channels=0), "head_channels is 0"),
        (lambda: PhysicsAttention(8)(torch.rand(5, 7)), r"expected \[N, 8\]"),
        (
            lambda: PhysicsAttention(8)(torch.rand(2, 8), torch.tensor([1, 0])),
            "unsorted",
        ),
        (
            lambda: PhysicsAttention(8)(torch.rand(5, 8), PointBatch.from_sizes([4])),
            "has 4 points but x has 5 rows",
        ),
        (
            lambda: PhysicsAttention(8)(
                torch.rand(4, 8), PointBatch.from_sizes([4]), 2
            ),
            "has 1 graphs but batch_size is 2",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
