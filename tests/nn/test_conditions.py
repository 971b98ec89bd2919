"""The laws of conditions of whole graphs, for blocks and networks."""

import pytest
import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from torch_geometric_flare import (
    FLARE,
    FLAREPP,
    GNOT,
    LNO,
    FLAREConv,
    PerceiverIO,
    ResidualMLP,
    Transformer,
    Transolver,
)
from torch_geometric_flare.functional import PointBatch
from torch_geometric_flare.nn import (
    FLAREHybrid,
    Linformer,
    Nystromformer,
    Reformer,
    ResidualBlock,
    predict_stream,
)
from torch_geometric_flare.testing import (
    assert_batch_invariant,
    assert_chunk_invariant,
    assert_point_parallel,
    run_processes,
)

from .sketches import CHANNELS, Conditioned, conditions

MERGING = {
    "FLARE": lambda n: FLARE(4, 8, 2, 2, 2, 5, condition_channels=n),
    "FLARE, latents": lambda n: FLARE(
        4, 8, 2, 2, 2, 5, condition_channels=n, latent_conditions=n > 0
    ),
    "FLARE, sines": lambda n: FLARE(
        *(4, 8, 2, 2, 2, 5),
        **{"condition_channels": n, "latent_conditions": n > 0, "qk_norm": True},
        condition_octaves=2 if n else 0,
        shared_latents=True,
    ),
    "FLAREPP": lambda n: FLAREPP(4, 8, 2, 2, 2, 5, condition_channels=n),
    "GNOT": lambda n: GNOT(4, 8, 2, 2, 2, condition_channels=n),
    "PerceiverIO": lambda n: PerceiverIO(4, 8, 2, 2, 2, 5, condition_channels=n),
    "Transolver": lambda n: Transolver(4, 8, 2, 2, 2, 5, condition_channels=n),
}
FULL = {
    "Transformer": lambda n: Transformer(4, 8, 2, 2, 2, condition_channels=n),
    "Linformer": lambda n: Linformer(
        4, 8, 2, 20, 5, num_layers=2, heads=2, condition_channels=n
    ),
    "Nystromformer": lambda n: Nystromformer(
        4, 8, 2, 5, num_layers=2, heads=2, condition_channels=n
    ),
    "Reformer": lambda n: Reformer(
        4, 8, 2, 6, 8, 2, num_layers=2, heads=2, condition_channels=n
    ),
    "Transolver on a grid": lambda n: Transolver(
        4, 8, 2, 2, 2, 5, grid=(5, 4), condition_channels=n
    ),
}
NETWORKS = {**MERGING, **FULL}


def start_of(name, channels=CHANNELS):
    torch.manual_seed(0)
    return NETWORKS[name](channels).double()


def build(name):
    """A network that its conditions have an effect on."""
    model = start_of(name)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("modulation"):
                parameter.normal_(std=0.5)
    return model


@pytest.mark.parametrize("name", NETWORKS)
def test_starts_as_the_network_without(name):
    model, without = start_of(name), start_of(name, 0)
    after = torch.rand(3)
    start_of(name, 0)
    torch.testing.assert_close(torch.rand(3), after, atol=0, rtol=0)
    x, batch = torch.randn(40, 4).double(), torch.arange(2).repeat_interleave(20)
    u = conditions(2)
    assert torch.equal(model(x, batch, u=u), without(x, batch))
    state = without.state_dict()
    assert not any("modulation" in key for key in state)
    for key, value in model.state_dict().items():
        expected = state.get(key, torch.zeros_like(value))
        assert torch.equal(value, expected), key
    # From this start gradients reach the maps of all blocks.
    model(x, batch, u=u).square().sum().backward()
    for key, parameter in model.named_parameters():
        if key.endswith("modulation"):
            assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", NETWORKS)
def test_batch_mates_change_nothing(name):
    sizes = (20, 0, 20, 20) if name in FULL else (1, 2, 63, 0, 40, 63)
    model = Conditioned(build(name), of_points=True)
    assert_batch_invariant(model, 4, sizes, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_each_graph_has_its_own_conditions(name):
    model, u = build(name), conditions(2)
    x, batch = torch.randn(40, 4).double(), torch.arange(2).repeat_interleave(20)
    other = u.clone()
    other[1] += 1
    y, z = model(x, batch, u=u), model(x, batch, u=other)
    torch.testing.assert_close(z[:20], y[:20])
    assert not torch.allclose(z[20:], y[20:])


@pytest.mark.parametrize("name", MERGING)
def test_chunks_change_nothing(name):
    assert_chunk_invariant(Conditioned(build(name)), 4, 37, (1, 40, 0, 100, 40))


@pytest.mark.parametrize("name", ["FLARE", "FLARE, sines", "GNOT", "PerceiverIO"])
def test_processes_change_nothing(name):
    assert_point_parallel(Conditioned(build(name)), 4, 3, (1, 40, 0, 100))


def message_of_conditions_that_differ(model):
    group = dist.group.WORLD
    x, u = torch.ones(5, 4).double(), conditions(1) + group.rank()
    try:
        model(x, group=group, u=u)
    except ValueError as error:
        return str(error)


def test_processes_must_agree_on_conditions():
    for message in run_processes(message_of_conditions_that_differ, 2, build("FLARE")):
        assert "differ in u:" in message


@pytest.mark.parametrize("name", MERGING)
def test_from_file_to_file(name):
    model, x, u = build(name), torch.randn(100, 4).double(), conditions(1)
    y = torch.empty(100, 2).double()
    predict_stream(model, x, y, 33, u=u.numpy())
    torch.testing.assert_close(y, model(x, u=u).detach())
    with pytest.raises(ValueError, match="u is None"):
        predict_stream(model, x, y, 33)
    for wrong in (conditions(2), conditions(1, 2), u[0]):
        with pytest.raises(ValueError, match=r"u has shape"):
            predict_stream(model, x, y, 33, u=wrong)


@pytest.mark.parametrize("name", MERGING)
def test_padded_graphs(name):
    model, x, u = build(name), torch.randn(2, 9, 4).double(), conditions(2)
    mask = torch.arange(9) < torch.tensor([[9], [5]])
    y = model(x, mask, u=u)
    for graph, size in enumerate((9, 5)):
        alone = model(x[graph, :size], u=u[graph : graph + 1])
        torch.testing.assert_close(y[graph, :size], alone)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["FLARE", "FLARE, sines"])
def test_compiled_and_exported(name):
    model, u = build(name), conditions(2)
    torch.compiler.reset()
    x = torch.randn(2, 9, 4).double()
    mask = torch.arange(9) < torch.tensor([[9], [5]])
    traced = torch.export.export(model, (x, mask), {"u": u}).module()
    torch.testing.assert_close(traced(x, mask, u=u), model(x, mask, u=u))
    compiled = torch.compile(model, backend="aot_eager")
    rows, batch = x.flatten(0, 1)[:14], torch.tensor([0] * 9 + [1] * 5)
    torch.testing.assert_close(compiled(rows, batch, u=u), model(rows, batch, u=u))
    with pytest.raises(ValueError, match="u is None"):
        torch.export.export(model, (x, mask))
    with pytest.raises(ValueError, match=r"u has shape \(1, 3\)"):
        torch.export.export(model, (x, mask), {"u": u[:1]})


@pytest.mark.parametrize("name", ["FLARE", "FLARE, latents", "GNOT"])
def test_gradients_of_conditions(name):
    model, batch = build(name), torch.tensor([0] * 5 + [1] * 12 + [2] * 3)
    x, u = torch.randn(20, 4).double(), conditions(3).requires_grad_()
    assert torch.autograd.gradcheck(lambda u: model(x, batch, u=u), u)
    grads = []
    for size in (None, 7):
        model.chunk_size = size
        y = model(x, batch, u=u)
        grads.append([y, *torch.autograd.grad(y.square().sum(), u)])
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-10)
    whole = y
    with torch.no_grad():
        torch.testing.assert_close(model(x, batch, u=u), whole.detach())


@pytest.mark.parametrize("name", ["FLARE", "FLARE, sines"])
def test_a_layout_brings_its_conditions(name):
    model = build(name)
    batch = torch.tensor([0] * 300 + [1] * 3 + [2] * 299 + [3] * 4)
    x, u = torch.randn(len(batch), 4).double(), conditions(4)
    layout = PointBatch.from_batch(x, batch, u=u)
    y = layout.unsort(model(layout.sort(x), layout))
    torch.testing.assert_close(y, model(x, batch, u=u))
    with pytest.raises(ValueError, match="u is given"):
        model(x, layout, u=u)


def test_rows_of_graphs_at_their_points():
    for sizes in ((3, 0, 2), (0, 4), (0, 0), (500, 3, 499, 0, 4), (1, 2, 300, 600, 1)):
        layout = PointBatch.from_sizes(sizes)
        rows = torch.randn(len(sizes), 3)
        at_points = layout.expand(rows).expand(sum(sizes), 3)
        expected = rows.repeat_interleave(torch.tensor(sizes), 0)
        assert torch.equal(layout.unsort(at_points), expected)


def test_a_hybrid_network():
    def hybrid(channels):
        torch.manual_seed(0)
        return FLAREHybrid(
            4, 8, 1, 2, 0.1, num_layers=1, heads=2, condition_channels=channels
        ).double()

    x, pos = torch.randn(30, 4).double(), torch.rand(30, 2).double()
    batch = torch.tensor([0] * 10 + [1] * 20)
    arguments = x, pos, torch.arange(30).repeat(2, 1), None, batch
    model, u = hybrid(2), conditions(2, 2)
    without = hybrid(0)(*arguments)
    assert torch.equal(model(*arguments, u=u), without)
    with torch.no_grad():
        model.blocks[0].mixer_norm.modulation.fill_(0.5)
    assert not torch.allclose(model(*arguments, u=u), without)
    with pytest.raises(ValueError, match="u is None"):
        model(*arguments)


@pytest.mark.parametrize("octaves", [0, 2])
def test_formula_of_a_block(octaves):
    conv, mlp = FLAREConv(8, heads=2), ResidualMLP(8, 8, 8)
    block = ResidualBlock(
        8, conv, mlp, condition_channels=2, condition_octaves=octaves
    ).double()
    x, batch = torch.randn(20, 8).double(), torch.tensor([0] * 5 + [1] * 15)
    u = conditions(2, 2)

    def modulated(norm, x):
        norm.modulation.data.normal_()
        phases = [torch.pi * 2**k * (u + 1) / 2 for k in range(octaves)]
        parts = [u, *(p.sin() for p in phases), *(p.cos() for p in phases)]
        encoded = torch.cat(parts, dim=1)
        scale, shift = (encoded @ norm.modulation.T)[batch].chunk(2, -1)
        y = torch.nn.functional.layer_norm(x, (8,), norm.weight, norm.bias)
        return y * (1 + scale) + shift

    middle = x + conv(modulated(block.mixer_norm, x), batch)
    expected = middle + mlp(modulated(block.feed_forward_norm, middle))
    layout = PointBatch.from_batch(x, batch, u=u)
    torch.testing.assert_close(block(x, batch, u=u), expected)
    torch.testing.assert_close(block(x, layout), expected)
    block.reset_parameters()
    assert not block.mixer_norm.modulation.any()
    for call in (
        lambda: block(x, batch),
        lambda: block(x, batch, u=u[:, :1]),
        lambda: ResidualBlock(8, conv, mlp)(x, batch, u=u),
    ):
        with pytest.raises(ValueError, match="u "):
            call()


def test_what_does_not_fit_is_refused():
    model, x, u = build("FLARE"), torch.randn(9, 4).double(), conditions(2)
    batch = torch.tensor([0] * 5 + [1] * 4)
    for wrong, found in (
        (None, "None"),
        (u[:1], r"\(1, 3\)"),
        (u[:, :2], r"\(2, 2\)"),
        (u[0], r"\(3,\)"),
    ):
        with pytest.raises(ValueError, match=f"u .*{found}"):
            model(x, batch, u=wrong)
    with pytest.raises(TypeError, match="u is torch.int64"):
        model(x, batch, u=u.long())
    for other in (start_of("FLARE", 0), LNO(4, 8, 2, heads=2).double()):
        with pytest.raises(ValueError, match=r"u .*\(2, 3\).*condition_channels=3"):
            other(x, batch, u=u)
    for wrong in (-1, 1.5, True):
        for build_one in (MERGING["FLARE"], MERGING["GNOT"], MERGING["PerceiverIO"]):
            with pytest.raises(ValueError, match="condition_channels"):
                build_one(wrong)


class Largest(TorchDispatchMode):
    """Notes how many numbers the largest tensor has."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for t in tree_leaves(result):
            if isinstance(t, torch.Tensor):
                self.numbers = max(self.numbers, t.numel())
        return result


@pytest.mark.parametrize("chunk_size", [None, 60])
def test_conditions_are_not_copied_to_points(chunk_size):
    points, channels = 200, 1000
    model = FLARE(4, 8, 2, 1, 2, 5, condition_channels=channels).double()
    model.chunk_size = chunk_size
    batch = torch.tensor([0] * 50 + [1] * 150)
    x, u = torch.randn(points, 4).double(), conditions(2, channels)
    with Largest() as largest:
        model(x, batch, u=u).sum().backward()
    assert 2 * 8 * channels <= largest.numbers < points * channels
