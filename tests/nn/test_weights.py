"""The laws of weighted points, for operators and networks."""

import pytest
import torch
from torch import nn

from torch_geometric_flare import (
    FLARE,
    FLAREPP,
    GNOT,
    LNO,
    FLAREConv,
    FLAREPPConv,
    PerceiverIO,
    Transformer,
    Transolver,
)
from torch_geometric_flare.functional import PointBatch
from torch_geometric_flare.nn import (
    FLAREHybrid,
    GPSFLAREConv,
    LatentReadout,
    LinearAttention,
    Linformer,
    Nystromformer,
    PhysicsAttention,
    Reformer,
    SoftmaxAttention,
    predict_stream,
)
from torch_geometric_flare.testing import (
    assert_chunk_invariant,
    assert_point_parallel,
    assert_weightless_points_receive,
    assert_weights_of_one,
    assert_weights_scale,
    assert_weights_split,
)

from .sketches import Wrapper

OPERATORS = {
    "FLAREConv": lambda: FLAREConv(4, heads=2, num_latents=5),
    "FLAREPPConv": lambda: FLAREPPConv(4, heads=2, num_latents=5),
    "PhysicsAttention": lambda: PhysicsAttention(4, heads=2, num_slices=5),
    "LinearAttention": lambda: LinearAttention(4, heads=2),
}
NETWORKS = {
    "FLARE": lambda: FLARE(4, 8, 2, num_layers=2, heads=2, num_latents=5),
    "FLAREPP": lambda: FLAREPP(4, 8, 2, num_layers=2, heads=2, num_latents=5),
    "GNOT": lambda: GNOT(4, 8, 2, num_layers=2, heads=2),
    "LNO": lambda: LNO(4, 8, 2, num_layers=2, heads=2, num_modes=5),
    "PerceiverIO": lambda: PerceiverIO(4, 8, 2, num_layers=2, heads=2, num_latents=5),
    "Transolver": lambda: Transolver(4, 8, 2, num_layers=2, heads=2, num_slices=5),
}
FULL = {
    "SoftmaxAttention": lambda: SoftmaxAttention(4, heads=2),
    "Transformer": lambda: Transformer(4, 8, 2, num_layers=2, heads=2),
}
MERGING = {**OPERATORS, **NETWORKS}
ALL = {**MERGING, **FULL}
# It adds up to 1e-5 to a sum of weights, whose unit then matters by as much.
ADDS = {"PhysicsAttention", "Transolver"}
LAWS = [
    assert_weights_split,
    assert_weights_scale,
    assert_weights_of_one,
    assert_weightless_points_receive,
]


def build(name):
    torch.manual_seed(0)
    return ALL[name]().double()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_laws(name, law):
    if law is assert_weights_scale and name in ADDS:
        with pytest.raises(AssertionError):
            law(build(name), 4)
        return
    law(build(name), 4)


@pytest.mark.parametrize("name", MERGING)
@pytest.mark.parametrize(
    "law", [assert_weights_split, assert_weightless_points_receive]
)
def test_laws_in_chunks(name, law):
    module = build(name)
    module.chunk_size = 37
    law(module, 4)


class Weighted(Wrapper):
    """A module whose points have weights that follow from their features."""

    def forward(self, x, batch=None, batch_size=None, group=None):
        weight = (3 * x[:, 0]).exp().detach()
        return self.module(x, batch, batch_size, group, weight)


@pytest.mark.parametrize("name", MERGING)
def test_chunks_change_nothing(name):
    assert_chunk_invariant(Weighted(build(name)), 4, 37, (1, 40, 0, 300))


@pytest.mark.parametrize("name", ["FLAREPP", "Transolver"])
def test_processes_change_nothing(name):
    assert_point_parallel(build(name), 4, 3, (1, 40, 0, 100), weighted=True)


class Detached(nn.Module):
    """A mean over points that adds weights instead of multiplying by them."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(4, 4).double()

    def forward(self, x, batch, batch_size, weight):
        x = self.map(x)
        shift = 0 if weight is None else weight[:, None]
        sums = x.new_zeros(batch_size, 4).index_add(0, batch, x + shift)
        return x + sums[batch]


def test_negative_controls():
    ignoring = Detached()
    forward = ignoring.forward
    ignoring.forward = lambda x, batch, batch_size, weight: forward(
        x, batch, batch_size, None
    )
    for law in (assert_weights_split, assert_weightless_points_receive):
        with pytest.raises(AssertionError):
            law(ignoring, 4)
    for law in LAWS:
        with pytest.raises(AssertionError):
            law(Detached(), 4)


def test_the_mesh_no_longer_matters():
    # A mean over a line with most points at one end, against evenly spread ones.
    conv = build("FLAREConv")
    even = torch.linspace(0, 1, 2001).double()
    uneven = even**3
    spacing = torch.gradient(uneven, dim=0)[0]

    def at(pos, weight=None):
        x = torch.stack([pos, pos**2, pos.sin(), 1 - pos], 1)
        asked = torch.tensor([0.3, 0.7]).double()
        q = torch.stack([asked, asked**2, asked.sin(), 1 - asked], 1)
        return conv((x, q), weight=weight)

    unweighted = (at(uneven) - at(even)).abs().max()
    weighted = (at(uneven, spacing) - at(even)).abs().max()
    assert weighted < 0.01 * unweighted


def test_hybrid_and_gps_layers_take_weights():
    torch.manual_seed(0)
    x, pos = torch.randn(30, 4), torch.rand(30, 2)
    weight = torch.rand(30) + 0.1
    edges = torch.arange(30).repeat(2, 1)
    hybrid = FLAREHybrid(
        4, 8, 1, pos_channels=2, radius=0.1, num_layers=1, heads=2, num_latents=4
    )
    layer = GPSFLAREConv(4, None, heads=2, num_latents=4).eval()
    for call in (
        lambda weight: hybrid(x, pos, edges, weight=weight),
        lambda weight: layer(x, edges, weight=weight),
    ):
        assert not torch.allclose(call(weight), call(None))
        torch.testing.assert_close(call(7 * weight), call(weight))


def test_readout_takes_weights():
    readout = LatentReadout(4, 8, 1, heads=2, num_latents=4).double()
    x, weight = torch.randn(30, 4).double(), torch.rand(30).double() + 0.1
    y = readout(x, weight=weight)
    twice = torch.cat([x, x[:1]]), torch.cat([weight, weight[:1] / 2])
    twice[1][0] /= 2
    torch.testing.assert_close(readout(twice[0], weight=twice[1]), y)


def test_padded_graphs_have_weights():
    conv = build("FLAREConv")
    x, weight = torch.randn(2, 9, 4).double(), torch.rand(2, 9).double()
    mask = torch.arange(9) < torch.tensor([[9], [5]])
    y = conv(x, mask, weight=weight)
    for graph, size in enumerate((9, 5)):
        alone = conv(x[graph, :size], weight=weight[graph, :size])
        torch.testing.assert_close(y[graph, :size], alone)


def test_from_file_to_file():
    model = build("FLARE")
    x, weight = torch.randn(100, 4).double(), torch.rand(100).double()
    y = torch.empty(100, 2).double()
    predict_stream(model, x, y, 33, weight=weight)
    torch.testing.assert_close(y, model(x, weight=weight).detach())
    with pytest.raises(ValueError, match="weight"):
        predict_stream(model, x, y, 33, weight=weight[:5])


def test_a_layout_brings_its_weights():
    model = build("FLARE")
    x, batch = torch.randn(9, 4).double(), torch.tensor([0] * 5 + [1] * 4)
    weight = torch.rand(9).double()
    layout = PointBatch.from_batch(x, batch, weight=weight)
    torch.testing.assert_close(model(x, layout), model(x, batch, weight=weight))
    with pytest.raises(ValueError, match="weight"):
        model(x, layout, weight=weight)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Linformer(4, 8, 2, 20, 5, num_layers=2, heads=2),
        lambda: Nystromformer(4, 8, 2, 5, num_layers=2, heads=2),
        lambda: Reformer(4, 8, 2, 6, 8, 2, num_layers=2, heads=2),
    ],
    ids=["Linformer", "Nystromformer", "Reformer"],
)
def test_what_cannot_weigh_points_says_so(build):
    with pytest.raises(ValueError, match="weight"):
        build()(torch.randn(20, 4), weight=torch.ones(20))


def test_gradients_of_weights():
    conv = build("FLAREConv")
    x, weight = torch.randn(15, 4).double(), torch.rand(15).double() + 0.1
    assert torch.autograd.gradcheck(
        lambda w: conv(x, weight=w), weight.requires_grad_()
    )
    whole = conv(x, weight=weight)
    conv.chunk_size = 7
    torch.testing.assert_close(conv(x, weight=weight), whole)
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(
            lambda w: conv(x[:8], weight=w), weight.detach()[:8].requires_grad_()
        )


@pytest.mark.parametrize("name", ["FLARE", "FLAREPP", "Transolver", "LNO"])
def test_gradients_of_weights_of_ragged_batches_in_chunks(name):
    """In an order of the layout that is not that of the batch."""
    model = build(name)
    batch = torch.tensor([0] * 30 + [1] * 3 + [2] * 29 + [3] * 4)
    x = torch.randn(len(batch), 4).double()
    x.requires_grad_()
    weight = (torch.rand(len(batch)).double() + 0.1).requires_grad_()
    grads = []
    for size in (None, 7):
        model.chunk_size = size
        y = model(x, batch, weight=weight)
        grads.append([y, *torch.autograd.grad(y.square().sum(), (x, weight))])
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", ["PhysicsAttention", "FLAREConv", "LinearAttention"])
def test_small_bodies_in_single_precision(name):
    """Areas of a body in metres, or of one a hundred thousand times as small."""
    module, x = build(name).float(), torch.randn(50, 4)
    share = torch.rand(50) / 50
    wanted = module(x, weight=share)
    for unit in (1e-4, 1e-10, 1e-20):
        found = module(x, weight=unit * share)
        error = (found - wanted).abs().max() / wanted.std()
        assert error < 2e-3


@pytest.mark.parametrize("unit", [1e-60, 1e60])
def test_weights_that_single_precision_cannot_hold(unit):
    module = build("FLAREConv").float()
    weight = torch.full((5,), unit, dtype=torch.float64)
    with pytest.raises(ValueError, match="1e[+-]60"):
        module(torch.randn(5, 4), weight=weight)


def test_weight_of_zero_has_no_gradient_by_its_logarithm():
    weight = torch.tensor([0.0, 1, 2], dtype=torch.float64, requires_grad=True)
    x = torch.randn(3, 4, dtype=torch.float64)
    with pytest.raises(ValueError, match="weight holds 0"):
        build("FLAREConv")(x, weight=weight)
    build("PhysicsAttention")(x, weight=weight).square().sum().backward()
    assert weight.grad.isfinite().all()
