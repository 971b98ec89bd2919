import copy
import pickle

import pytest
import torch
import torch.distributed as dist

from torch_geometric_flare import FLARE
from torch_geometric_flare.functional import reduce_gradients
from torch_geometric_flare.testing import (
    assert_batch_invariant,
    assert_chunk_invariant,
    assert_permutation_equivariant,
    assert_point_parallel,
    run_processes,
)


def small(**options):
    model = FLARE(3, 8, 2, num_layers=2, heads=2, num_latents=5, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model


@pytest.mark.parametrize(
    ("in_channels", "num_latents", "heads", "expected"),
    [
        (2, 64, 8, 592_641),
        (3, 256, 16, 691_009),
        (2, 256, 8, 690_945),
        (2, 128, 8, 625_409),
        (3, 256, 8, 691_009),
        (3, 128, 8, 625_473),
    ],
)
def test_published_parameter_counts(in_channels, num_latents, heads, expected):
    model = FLARE(in_channels, 64, 1, heads=heads, num_latents=num_latents)
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize("sizes", [(1, 2, 63, 0, 500, 5000), (10, 900, 20, 905)])
def test_batch_invariant(sizes):
    # Sums over thousands of points of unit size: gradients of order 1e3.
    assert_batch_invariant(small().double(), 3, sizes, atol=1e-9)


@pytest.mark.parametrize(
    ("chunk_size", "sizes"),
    [(1, (1, 2, 0, 0, 7)), (7, (0, 0, 63, 3, 4, 5, 60)), (1000, (63, 0, 500, 5000))],
)
def test_chunks_change_nothing(chunk_size, sizes):
    model = small(qk_norm=True).double()
    assert_chunk_invariant(model, 3, chunk_size, sizes, atol=1e-9)


@pytest.mark.parametrize(
    ("sizes", "shards", "chunk_size"),
    [
        ((1, 2, 63, 0, 300), None, None),
        ((1, 2, 63, 0, 300), None, 50),
        ((0, 2, 0, 7), (0, 9), None),
        ((0, 2, 0, 7), (0, 9), 4),
        ((40, 300, 2), (200, 0, 142), None),
        ((40, 300, 2), (200, 0, 142), 50),
    ],
)
def test_point_parallel(sizes, shards, chunk_size):
    model = small(qk_norm=True, chunk_size=chunk_size).double()
    world_size = 2 if shards is None else len(shards)
    assert_point_parallel(model, 3, world_size, sizes, shards)


def predict_in_chunks_of_its_own(model, x, chunk_sizes):
    group = dist.group.WORLD
    x = x[:30] if group.rank() == 0 else x[30:]
    model.chunk_size = chunk_sizes[group.rank()]
    model(x, group=group).square().sum().backward()
    reduce_gradients(model.parameters(), group)
    return [p.grad for p in model.parameters()]


def test_processes_choose_their_chunks():
    model = small().double()
    x = torch.randn(100, 3, dtype=torch.float64)
    model(x).square().sum().backward()
    expected = [p.grad for p in model.parameters()]
    for found in run_processes(predict_in_chunks_of_its_own, 2, model, x, (None, 9)):
        torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)


def count_bytes(points):
    """What each process sends in a training step of two blocks."""
    group, sent = dist.group.WORLD, []
    plain = dist.all_reduce

    def counted(tensor, *args, **kwargs):
        sent.append(tensor.nbytes)
        return plain(tensor, *args, **kwargs)

    dist.all_reduce = counted
    model = FLARE(3, 64, 1, num_layers=2, num_latents=128)
    model(torch.rand(points, 3), group=group).sum().backward()
    reduce_gradients(model.parameters(), group)
    return sent


def test_what_processes_send_does_not_grow_with_the_points():
    model = FLARE(3, 64, 1, num_layers=2, num_latents=128)
    gradients = [4 * (p.numel() + 1) for p in model.parameters()]
    maxima, sums = 4 * (8 * 128 + 1), 4 * 8 * 128 * 9
    expected = [96, maxima, sums, maxima, sums, sums, sums, sum(gradients)]
    assert (maxima, sums) == (4_100, 36_864)
    for points in (10, 1000):
        assert run_processes(count_bytes, 2, points) == [expected] * 2


def test_permutation_equivariant():
    x = torch.randn(63, 3, dtype=torch.float64)
    batch = torch.tensor([0] * 20 + [1] * 43)
    assert_permutation_equivariant(small().double(), x, batch)


@pytest.mark.slow
def test_compile_by_inductor():
    model = small()
    compiled = torch.compile(model, fullgraph=True)
    x = torch.randn(63, 3)
    torch.testing.assert_close(compiled(x), model(x), atol=1e-5, rtol=1e-5)


def test_export_with_any_number_of_points():
    model = small().eval()
    program = torch.export.export(
        model,
        (torch.randn(40, 3),),
        dynamic_shapes={"x": {0: torch.export.Dim("points", min=2)}},
    )
    for points in (2, 63, 1000):
        x = torch.randn(points, 3)
        torch.testing.assert_close(program.module()(x), model(x))


def test_double_backward_as_physics_informed_losses_need():
    model = small().double()
    x = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    loss = slope.square().sum()
    grads = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)

    # Reference: central differences of the loss along one direction of the parameters.
    direction = [torch.randn_like(p) for p in model.parameters()]

    def loss_at(step):
        moved = copy.deepcopy(model)
        with torch.no_grad():
            for p, d in zip(moved.parameters(), direction, strict=True):
                p.add_(d, alpha=step)
        (slope,) = torch.autograd.grad(moved(x).sum(), x)
        return slope.square().sum().item()

    derivative = sum(
        (g * d).sum().item()
        for g, d in zip(grads, direction, strict=True)
        if g is not None
    )
    step = 1e-5
    expected = (loss_at(step) - loss_at(-step)) / (2 * step)
    assert derivative == pytest.approx(expected, rel=1e-5)


def test_lower_precision():
    model = small().double()
    x = torch.randn(63, 3, dtype=torch.float64)
    expected = model(x)
    single = copy.deepcopy(model).float()
    torch.testing.assert_close(
        single(x.float()).double(), expected, atol=1e-4, rtol=1e-4
    )
    scale = expected.abs().max().item()
    half = copy.deepcopy(model).bfloat16()(x.bfloat16())
    torch.testing.assert_close(half.double(), expected, atol=0.1 * scale, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = single(x.float())
    torch.testing.assert_close(mixed.double(), expected, atol=0.1 * scale, rtol=0)


def test_round_trips():
    model = small()
    x = torch.randn(63, 3)
    fresh = FLARE(3, 8, 2, num_layers=2, heads=2, num_latents=5)
    fresh.load_state_dict(model.state_dict())
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), fresh):
        assert torch.equal(other(x), model(x))


def test_reset_parameters_changes_every_parameter():
    model = FLARE(3, 8, 2, num_layers=2, heads=2, qk_norm=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7)
    model.reset_parameters()
    for name, parameter in model.named_parameters():
        assert not (parameter == 7).any(), name


def test_errors():
    with pytest.raises(ValueError, match="num_layers is 0"):
        FLARE(3, 8, 1, num_layers=0)
    with pytest.raises(ValueError, match="hidden_channels is 8, which .*heads=3"):
        FLARE(3, 8, 1, heads=3)
    with pytest.raises(ValueError, match="kv_layers is -2"):
        FLARE(3, 8, 1, kv_layers=-2)
    with pytest.raises(ValueError, match="mlp_layers is -2"):
        FLARE(3, 8, 1, mlp_layers=-2)
    with pytest.raises(ValueError, match="chunk_size is 0"):
        FLARE(3, 8, 1, chunk_size=0)
    with pytest.raises(ValueError, match=r"expected \[N, 3\]"):
        small()(torch.randn(5, 4))


def test_repr():
    assert str(small()) == "FLARE(3, 8, 2, num_layers=2, heads=2, num_latents=5)"
