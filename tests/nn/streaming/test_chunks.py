import pytest
import torch
from torch import nn

from torch_geometric_flare import FLARE, FLAREConv, PointBatch
from torch_geometric_flare.nn import ResidualBlock, ResidualMLP
from torch_geometric_flare.nn.streaming.chunks import run_in_chunks
from torch_geometric_flare.testing import assert_chunk_invariant

SIZES = (1, 0, 63, 40, 0, 300, 7, 100, 0)


def network(width=16, **changes):
    model = FLARE(
        3, width, 2, num_layers=2, heads=4, num_latents=8, kv_layers=1, **changes
    )
    for parameter in model.parameters():  # scores and updates that matter
        nn.init.normal_(parameter, std=0.3)
    return model


def gradients(model, x, *args, weights):
    """Output and the gradients of the input and of every parameter."""
    x = x.detach().requires_grad_()
    y = model(x, *args)
    wanted = [x, *(p for p in model.parameters() if p.requires_grad)]
    return [y, *torch.autograd.grad((y * weights).sum(), wanted)]


def deviation(found, expected):
    """Of all of them together: some gradients are small differences of large sums."""
    found, expected = (
        torch.cat([t.detach().double().flatten() for t in tensors])
        for tensors in (found, expected)
    )
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("chunk_size", [1, 17, 256, 510])
@pytest.mark.parametrize("module", [FLAREConv(3, 8, heads=2, num_latents=5), network()])
def test_chunks_change_nothing(module, chunk_size):
    sizes = (1, 2, 0, 0, 7, 3) if chunk_size == 1 else SIZES
    assert_chunk_invariant(module.double(), 3, chunk_size, sizes)


@pytest.mark.parametrize("chunk_size", [17, 256])
@pytest.mark.parametrize("sizes", [SIZES, (500, 7, 1000), (1, 600, 2)])
def test_chunks_of_rows_in_the_order_of_a_layout(sizes, chunk_size):
    layout = PointBatch.from_sizes(sizes)
    assert layout.order is None or sizes[0] == 1  # both kinds are among them
    conv = FLAREConv(4, heads=2, num_latents=5).double()
    x = torch.randn(sum(sizes), 4, dtype=torch.float64)
    weights = torch.randn_like(x)
    expected = gradients(conv, x, layout, weights=weights)
    conv.chunk_size = chunk_size
    found = gradients(conv, x, layout, weights=weights)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)


def test_single_precision():
    model, x, weights = network(), torch.rand(1000, 3), torch.randn(1000, 2)
    y, *expected = gradients(model.double(), x.double(), weights=weights.double())
    model.float().chunk_size = 7
    found = gradients(model, x, weights=weights)
    assert deviation([found[0]], [y]) < 1e-5
    assert deviation(found[1:], expected) < 1e-5


def test_each_block_keeps_only_its_input():
    points, width, blocks = 4096, 16, 2
    model = network(chunk_size=512)
    storages = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor  # held, so that no address comes twice

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = model(torch.rand(points, 3))
        whole = points * width * 4
        large = [size for size in storages.values() if size > whole // 8]
        # Inputs of the lift, of each block and of the head.
        assert sorted(large) == [points * 3 * 4] + (blocks + 1) * [whole]
        storages.clear()
        model.chunk_size = None
        model(torch.rand(points, 3))
        assert sum(storages.values()) > 8 * blocks * whole
    y.sum().backward()


class Dropping(nn.Module):
    """Dropout, wherever an activation is."""

    def forward(self, x):
        return nn.functional.dropout(x.tanh(), 0.3, training=True)


def test_dropout_is_repeated_in_backward():
    """The gradient is that of the very function that was computed."""
    model = network(act=Dropping(), chunk_size=40).double()
    x = torch.randn(100, 3, dtype=torch.float64, requires_grad=True)
    direction = torch.randn_like(x)

    def loss(x):
        torch.manual_seed(5)
        return model(x).square().sum()

    (gradient,) = torch.autograd.grad(loss(x), x)
    step = 1e-6
    with torch.no_grad():
        slope = (loss(x + step * direction) - loss(x - step * direction)) / (2 * step)
        found = (gradient * direction).sum()
        torch.testing.assert_close(found, slope, rtol=1e-6, atol=0)
        torch.manual_seed(6)
        assert not torch.equal(model(x), model(x))
    torch.manual_seed(5)
    y = model(x)
    after = torch.get_rng_state()
    y.sum().backward()
    assert torch.equal(torch.get_rng_state(), after)  # backward draws none of its own


def test_autocast_is_repeated_in_backward(monkeypatch):
    monkeypatch.setattr("torch_geometric_flare.nn.autocast.CPU_COMPUTES_BF16", True)
    model = network(12, chunk_size=40)  # of no whole vectors: autocast stays
    seen = []

    def record(module, args, output):
        seen.append((torch.is_grad_enabled(), output.dtype))

    model.blocks[0].mixer.value_mlp.layers[0].register_forward_hook(record)
    x = torch.randn(100, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(x)
    assert y.dtype == torch.bfloat16
    assert len(seen) == 3
    y.float().square().sum().backward()
    assert len(seen) == 6
    assert {dtype for _, dtype in seen} == {torch.bfloat16}
    found = [p.grad.clone() for p in model.parameters()]

    model.chunk_size = None
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(x)
    y.float().square().sum().backward()
    assert deviation(found, [p.grad for p in model.parameters()]) < 0.05


def test_autocast_leaves_no_weights_without_a_graph():
    conv = FLAREConv(4, heads=2, num_latents=5, chunk_size=8)
    x = torch.randn(20, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        conv(x)
        conv.chunk_size = None
        conv(x).float().sum().backward()
    assert all(p.grad is not None for p in conv.parameters())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(mode):
    model = network().double()
    x = torch.randn(500, 3, dtype=torch.float64)
    batch = torch.arange(3).repeat_interleave(torch.tensor([3, 400, 97]))
    expected = model(x, batch)
    model.chunk_size = 64
    with mode():
        y = model(x, batch)
    assert not y.requires_grad
    torch.testing.assert_close(y, expected, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(model(x, batch), y, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(
    "trained", ["feed_forward", "mixer.value_mlp", "mixer.latents", "lift", "head"]
)
def test_frozen_parts(trained):
    model = network().double()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trained in name)
    x = torch.randn(100, 3, dtype=torch.float64)
    results = []
    for chunk_size in (None, 30):
        model.chunk_size = chunk_size
        model.zero_grad(set_to_none=True)
        model(x).square().sum().backward()
        results.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*results, atol=1e-10, rtol=1e-10)
    assert {grad is None for grad in results[0]} == {True, False}


def test_shared_weights_and_second_derivatives():
    """The input of the second layer is made with the parameters of the second."""
    conv = FLAREConv(4, heads=2, num_latents=3, kv_layers=0, act="tanh").double()
    for parameter in conv.parameters():
        nn.init.normal_(parameter, std=0.5)
    x = torch.randn(20, 4, dtype=torch.float64, requires_grad=True)
    wanted = [x, *conv.parameters()]
    results = []
    for chunk_size in (None, 7):
        conv.chunk_size = chunk_size
        y = conv(conv(x))
        first = torch.autograd.grad(y.square().sum(), wanted, create_graph=True)
        penalty = sum(grad.square().sum() for grad in first)
        second = torch.autograd.grad(penalty, wanted)
        results.append([y, *first, *second])
    torch.testing.assert_close(*results, atol=1e-10, rtol=1e-9)


def test_backward_twice():
    model = network(chunk_size=40).double()
    x = torch.randn(100, 3, dtype=torch.float64, requires_grad=True)
    loss = model(x).square().sum()
    first = torch.autograd.grad(loss, x, retain_graph=True)
    assert torch.equal(*first, *torch.autograd.grad(loss, x))


@pytest.mark.parametrize("chunk_size", [0, -3])
@pytest.mark.parametrize("module", [FLAREConv(3, 8, heads=2), network()])
def test_chunk_size_is_positive(module, chunk_size):
    module.chunk_size = chunk_size
    with pytest.raises(ValueError, match=f"chunk_size is {chunk_size}"):
        module(torch.randn(5, 3))
    module.chunk_size = None


def test_no_points_at_all():
    model = network(chunk_size=5)
    x = torch.randn(0, 3, requires_grad=True)
    assert model(x).shape == (0, 2)
    assert model(x, torch.empty(0, dtype=torch.long), 3).shape == (0, 2)


def test_block():
    conv, mlp = FLAREConv(8, heads=2, num_latents=5), ResidualMLP(8, 8, 8)
    block = ResidualBlock(8, conv, mlp).double()
    layout = PointBatch.from_sizes((30, 0, 50))
    x = torch.randn(80, 8, dtype=torch.float64)
    torch.testing.assert_close(
        run_in_chunks(block, x, layout, 13, None), block(x, layout)
    )


def test_parameters_that_are_lent_for_a_forward():
    model, x = network(chunk_size=40).double(), torch.randn(100, 3, dtype=torch.float64)
    lent = {
        name: (2 * p.detach() + 0.1).requires_grad_()
        for name, p in model.named_parameters()
    }
    results = []
    for size in (40, None):
        model.chunk_size = size
        y = torch.func.functional_call(model, lent, (x,))
        results.append([y, *torch.autograd.grad(y.square().sum(), lent.values())])
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-10, rtol=1e-10)


def test_function_transforms_see_all_at_once():
    model, x = network(chunk_size=40), torch.randn(100, 3)
    parameters = dict(model.named_parameters())

    def loss(parameters):
        return torch.func.functional_call(model, parameters, (x,)).square().sum()

    found = torch.func.grad(loss)(parameters)
    loss(parameters).backward()
    for name, parameter in parameters.items():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-4, rtol=1e-3)
    conv, query = model.blocks[0].mixer, torch.randn(50, 16)
    conv.chunk_size = 30
    _, tangent = torch.func.jvp(conv, (query,), (torch.ones_like(query),))
    assert tangent.isfinite().all()
