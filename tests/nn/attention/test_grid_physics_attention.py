import copy
import pickle

import pytest
import torch
from torch import nn

from torch_geometric_flare import PointBatch
from torch_geometric_flare.nn import (
    GridPhysicsAttention,
    PhysicsAttention,
    ResidualBlock,
)
from torch_geometric_flare.nn.streaming.stage import is_stage
from torch_geometric_flare.testing import assert_batch_invariant, assert_same_function

GRID = (4, 3)


def attention_of(**options):
    """With parameters large enough for slices and attention to be far from uniform."""
    options = {"heads": 2, "num_slices": 5, **options}
    module = GridPhysicsAttention(8, GRID, **options).double()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name != "temperature":
                parameter.normal_(std=0.7)
        module.temperature.copy_(torch.tensor([0.3, 0.8]))
    return module


def convolve(conv, x):
    """The sum over the neighbours of each point of the grid, one after another."""
    rows, columns = GRID
    out = []
    for i in range(rows):
        for j in range(columns):
            y = conv.bias
            for a in (-1, 0, 1):
                for b in (-1, 0, 1):
                    if 0 <= i + a < rows and 0 <= j + b < columns:
                        neighbour = x[(i + a) * columns + j + b]
                        y = y + conv.weight[:, :, a + 1, b + 1] @ neighbour
            out.append(y)
    return torch.stack(out)


def reference(module, x):
    """Attention among points whose maps are the convolutions, point by point."""
    plain = PhysicsAttention(8, 2, 5).double()
    own = module.state_dict()
    own = {k: v for k, v in own.items() if not k.startswith(("point", "feature"))}
    own["temperature"] = own["temperature"].clamp(0.1, 5.0)
    plain.load_state_dict(own, strict=False)
    point, feature = (
        convolve(conv, x).view(len(x), 2, -1) for conv in (module.point, module.feature)
    )
    y = plain.attend(point, feature, PointBatch.from_sizes((len(x),)))
    return plain.out(y.flatten(1))


@pytest.mark.parametrize("temperatures", [(0.3, 0.8), (-0.2, 7.0)])
def test_formula(temperatures):
    module = attention_of()
    with torch.no_grad():
        module.temperature.copy_(torch.tensor(temperatures))
    x = torch.randn(12, 8, dtype=torch.float64)
    assert_same_function(module, lambda x: reference(module, x), [x])


def test_batch_invariant():
    assert_batch_invariant(attention_of(), 8, (12, 0, 12, 12))


def test_a_layout_made_before_and_a_block():
    module = attention_of()
    x = torch.randn(24, 8, dtype=torch.float64)
    layout, batch = PointBatch.from_sizes((12, 12)), torch.arange(24) // 12
    torch.testing.assert_close(module(x, layout), module(x, batch))
    block = ResidualBlock(8, module, nn.Identity()).double()
    torch.testing.assert_close(block(x, layout), block(x, batch))


def test_no_part_of_a_graph_can_be_encoded():
    module = attention_of()
    assert not is_stage(module) and not hasattr(module, "encode")
    block = ResidualBlock(8, module, nn.Identity()).double()
    x = torch.randn(12, 8, dtype=torch.float64)
    with pytest.raises(ValueError, match="GridPhysicsAttention"):
        block(x, group=object())


def test_initial_parameters():
    module = GridPhysicsAttention(64, (5, 5), heads=8, num_slices=32, init="paper")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(9.0)
    module.reset_parameters()
    for name, parameter in module.named_parameters():
        assert parameter.ne(9.0).all(), name
    assert module.temperature.tolist() == [0.5] * 8
    weight = module.slice.weight.detach()
    torch.testing.assert_close(weight.T @ weight, torch.eye(8), atol=1e-5, rtol=0)
    # PyTorch draws convolutions uniformly up to the root of one over 9 · 64.
    bound = (9 * 64) ** -0.5
    assert 0.99 * bound < module.point.weight.abs().max() <= bound
    assert 0.018 < module.query.weight.std() < 0.022


def test_copies_and_arguments():
    module = attention_of(head_channels=3)
    x = torch.randn(12, 8, dtype=torch.float64)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(x), module(x))
    assert GridPhysicsAttention(8, [4, 3]).grid == (4, 3)


def test_repr():
    module = GridPhysicsAttention(16, (8, 5), heads=4, num_slices=32)
    assert str(module) == "GridPhysicsAttention(16, (8, 5), heads=4, num_slices=32)"


@pytest.mark.parametrize("grid", [(4,), (4, 0), 12, (4, 2.5), "43", None])
def test_no_grid(grid):
    with pytest.raises(ValueError, match="grid is .*, expected two positive integers"):
        GridPhysicsAttention(8, grid)


def test_what_makes_no_sense_is_refused():
    module = attention_of()
    with pytest.raises(ValueError, match="graph 0 has 24 points, expected 12"):
        module(torch.randn(24, 8))
    with pytest.raises(ValueError, match=r"expected \[N, 8\]"):
        module(torch.randn(12, 7))
    with pytest.raises(ValueError, match="heads=3"):
        GridPhysicsAttention(8, GRID, heads=3)
