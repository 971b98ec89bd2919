import copy
import pickle

import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_flare.nn import LocalConv
from torch_geometric_flare.testing import (
    assert_batch_invariant,
    assert_permutation_equivariant,
    assert_same_function,
)
from torch_geometric_flare.transforms import KNNEdges, RadiusEdges, quadrature_weights

from ..sketches import AlongEdges


def conv_of(channels=4, pos_channels=2, radius=0.3, **options):
    conv = LocalConv(channels, pos_channels, radius, **options).double()
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.normal_()
    return conv


def naive(conv, x, pos, edge_index, edge_weight):
    """The formula, one point after another."""
    out = []
    for i in range(len(x)):
        top = torch.zeros(conv.channels, dtype=x.dtype)
        bottom = torch.zeros((), dtype=x.dtype)
        for e in (edge_index[1] == i).nonzero().flatten().tolist():
            j = edge_index[0, e]
            r = (pos[j] - pos[i]) / conv.radius
            window = max(1 - (r * r).sum(), torch.zeros(())) ** 2
            h = conv.kernel_in.weight @ r + conv.kernel_in.bias
            h = torch.nn.functional.gelu(h, approximate="tanh")
            g = conv.kernel_out.weight @ h + conv.kernel_out.bias
            v = conv.value.weight @ x[j] + conv.value.bias
            top = top + edge_weight[e] * window * v * g
            bottom = bottom + edge_weight[e] * window
        mean = top / bottom if bottom > 0 else top
        out.append(conv.out.weight @ mean + conv.out.bias)
    return torch.stack(out)


def test_formula():
    conv = conv_of()
    x, pos = torch.randn(20, 4).double(), torch.rand(20, 2).double()
    edge_index = torch.randint(19, (2, 150))  # the last point has no edge
    edge_weight = torch.rand(150).double()
    lengths = (pos[edge_index[0]] - pos[edge_index[1]]).norm(dim=1)
    assert lengths.min() < 0.3 < lengths.max()
    assert_same_function(
        lambda *a: conv(a[0], a[1], edge_index, a[2]),
        lambda *a: naive(conv, a[0], a[1], edge_index, a[2]),
        [x, pos, edge_weight],
    )
    equal = conv(x, pos, edge_index, torch.full((150,), 3.0))
    torch.testing.assert_close(conv(x, pos, edge_index), equal)


def grid(side):
    ticks = torch.linspace(0, 1, side, dtype=torch.float64)
    return torch.stack(torch.meshgrid(ticks, ticks, indexing="ij"), -1).view(-1, 2)


def field(pos):
    x, y = pos.unbind(1)
    wave = torch.sin(3 * x) * torch.cos(2 * y)
    return torch.stack([wave, x * y, x.exp(), torch.cos(5 * y)], dim=1)


def integral(conv, centres, side=301):
    """The layer at a few points, by a quadrature that is far finer."""
    fine = grid(side)
    area = quadrature_weights(fine, grid=(side, side))
    out = []
    for centre in centres.split(1):
        near = (fine - centre).norm(dim=1) < conv.radius
        pos = torch.cat([centre, fine[near]])
        source = torch.arange(1, len(pos))
        edge_index = torch.stack([source, torch.zeros_like(source)])
        out.append(conv(field(pos), pos, edge_index, area[near])[:1])
    return torch.cat(out)


@torch.no_grad()
def test_a_finer_grid_is_the_same_operator_with_a_smaller_error():
    conv = conv_of(radius=0.2)
    expected = integral(conv, grid(4))  # inside, at the boundary, and at corners

    def error(side, transform, weighted=True):
        data = transform(Data(pos=grid(side), grid=(side, side)))
        weight = data.edge_weight if weighted else None
        y = conv(field(data.pos), data.pos, data.edge_index, weight)
        step = (side - 1) // 3
        y = y.view(side, side, -1)[::step, ::step].reshape(16, -1)
        return ((y - expected).norm() / expected.norm()).item()

    sides = (16, 31, 61)
    errors = [error(side, RadiusEdges(0.2)) for side in sides]
    # Of second order: half the spacing, a quarter of the error.
    assert errors[0] < 0.05
    assert errors[1] < errors[0] / 3 and errors[2] < errors[1] / 3
    # Equal weights are wrong at the boundary: of first order.
    equal = [error(side, RadiusEdges(0.2), weighted=False) for side in sides]
    assert equal[2] > 10 * errors[2] and equal[2] < equal[0] / 2
    # A number of neighbours is another operator on each grid.
    counted = [error(side, KNNEdges(12), weighted=False) for side in sides]
    assert counted[2] > counted[1] > counted[0] > errors[0]
    assert counted[2] > 100 * errors[2]


@torch.no_grad()
def test_points_that_crowd_count_by_their_area():
    conv = conv_of(radius=0.4)
    side = 41
    # More points at small x.
    ticks = torch.linspace(0, 1, side, dtype=torch.float64)
    pos = torch.stack(torch.meshgrid(ticks**2, ticks, indexing="ij"), -1).view(-1, 2)
    data = RadiusEdges(0.4)(Data(pos=pos, grid=(side, side)))
    middle = (side // 2) * side + side // 2
    expected = integral(conv, pos[middle : middle + 1])
    y = conv(field(pos), pos, data.edge_index, data.edge_weight)[middle]
    plain = conv(field(pos), pos, data.edge_index)[middle]
    torch.testing.assert_close(y, expected[0], rtol=0, atol=0.01 * expected.abs().max())
    assert (plain - expected[0]).norm() > 10 * (y - expected[0]).norm()


def test_batch_invariant():
    conv = AlongConv(conv_of(radius=0.5))
    assert_batch_invariant(conv, 4, (1, 2, 63, 0, 200), atol=1e-9)


class AlongConv(AlongEdges):
    def __init__(self, conv):
        super().__init__(conv, RadiusEdges(0.5))


def test_permutation_equivariant():
    x = torch.randn(63, 4, dtype=torch.float64)
    batch = torch.tensor([0] * 20 + [1] * 43)
    assert_permutation_equivariant(AlongConv(conv_of(radius=0.5)), x, batch)


def test_it_starts_as_an_average():
    conv = LocalConv(8, 3, 0.5, kernel_channels=512)
    kernel = conv.kernel_out(conv.activation(conv.kernel_in(torch.randn(500, 3))))
    assert abs(kernel.mean() - 1) < 0.1
    assert 0.05 < kernel.std() < 1


def test_few_points_and_no_edges():
    conv = conv_of()
    none = torch.empty(2, 0, dtype=torch.long)
    empty = conv(torch.empty(0, 4).double(), torch.empty(0, 2).double(), none)
    assert empty.shape == (0, 4)
    x, pos = torch.randn(1, 4).double(), torch.rand(1, 2).double()
    torch.testing.assert_close(conv(x, pos, none), conv.out.bias.expand(1, 4))
    loop = torch.zeros(2, 1, dtype=torch.long)
    kernel = conv.kernel_out(conv.activation(conv.kernel_in.bias))
    torch.testing.assert_close(conv(x, pos, loop), conv.out(kernel * conv.value(x)))
    without_weight = conv(x, pos, loop, torch.zeros(1))
    torch.testing.assert_close(without_weight, conv.out.bias.expand(1, 4))


def test_gradgradcheck():
    conv = conv_of(2, radius=0.7)
    x = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    pos = torch.rand(4, 2, dtype=torch.float64, requires_grad=True)
    edges = torch.tensor([[0, 1, 2, 3, 1, 0], [0, 1, 2, 3, 0, 3]])
    assert torch.autograd.gradcheck(conv, (x, pos, edges))
    assert torch.autograd.gradgradcheck(conv, (x, pos, edges))


def test_lower_precision():
    conv = conv_of()
    pos = torch.rand(63, 2)
    data = RadiusEdges(0.3)(Data(pos=pos + 100))  # far from the origin
    x = torch.randn(63, 4)
    edges = (data.edge_index, data.edge_weight)
    expected = conv(x.double(), data.pos.double(), *edges)
    scale = expected.abs().max().item()
    single = conv_of().float()
    single.load_state_dict(conv.state_dict())
    found = single(x, data.pos, *edges)
    torch.testing.assert_close(found.double(), expected, atol=1e-4 * scale, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = single(x, data.pos, *edges)
    torch.testing.assert_close(mixed.double(), expected, atol=0.03 * scale, rtol=0)
    half = single.bfloat16()(x.bfloat16(), data.pos, *edges)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), expected, atol=0.03 * scale, rtol=0)


def test_copies_reset_and_repr():
    conv = conv_of()
    x, pos = torch.randn(9, 4).double(), torch.rand(9, 2).double()
    edge_index = torch.randint(9, (2, 40))
    for other in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
        assert torch.equal(other(x, pos, edge_index), conv(x, pos, edge_index))
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.fill_(7)
    conv.reset_parameters()
    for name, parameter in conv.named_parameters():
        assert not (parameter == 7).any(), name
    assert str(conv) == "LocalConv(4, pos_channels=2, radius=0.3)"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LocalConv(0, 2, 0.1), "channels is 0"),
        (lambda: LocalConv(4, 0, 0.1), "pos_channels is 0"),
        (lambda: LocalConv(4, 2, 0.1, kernel_channels=0), "kernel_channels is 0"),
        (lambda: LocalConv(4, 2, -0.1), "radius is -0.1, expected a positive length"),
    ],
)
def test_sizes_that_make_no_sense(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": torch.ones(5, 3)}, r"x has shape \(5, 3\), expected \[N, 4\]"),
        ({"pos": torch.ones(5, 3)}, r"pos has shape \(5, 3\), expected \[N, 2\]"),
        ({"pos": torch.ones(4, 2)}, "pos has 4 rows, expected 5"),
        ({"edge_index": torch.zeros(2, 6)}, "edge_index is torch.float32"),
        ({"edge_weight": torch.ones(5)}, r"edge_weight has shape \(5,\), expected"),
    ],
)
def test_input_that_does_not_fit(changed, message):
    arguments = {
        "x": torch.ones(5, 4),
        "pos": torch.ones(5, 2),
        "edge_index": torch.zeros(2, 6, dtype=torch.long),
    }
    with pytest.raises(ValueError, match=message):
        LocalConv(4, 2, 0.1)(**{**arguments, **changed})
