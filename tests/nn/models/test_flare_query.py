import io

import pytest
import torch
from torch import nn

from torch_geometric_flare import FLARE, FLAREConv
from torch_geometric_flare.nn import FLAREQuery, GeometryState, LatentReadout
from torch_geometric_flare.surrogates import describe_model
from torch_geometric_flare.testing import (
    assert_same_function,
    assert_weightless_points_receive,
    assert_weights_of_one,
    assert_weights_scale,
    assert_weights_split,
    run_processes,
)
from torch_geometric_flare.training.optimizer import hidden_matrices, parameter_groups

from ..sketches import BothStreams

BATCH = torch.tensor([0] * 20 + [1] * 9 + [3] * 31)
QUERY_BATCH = torch.tensor([0] * 4 + [2] * 3 + [3] * 10)


def network(**changes):
    """In double precision, with parameters that matter."""
    sizes = {"num_layers": 3, "heads": 2, "num_latents": 5, "kv_layers": 1}
    torch.manual_seed(0)
    model = FLAREQuery(3, 8, 2, 4, 3, **{**sizes, **changes})
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model.double()


def points(model, requires_grad=False):
    generator = torch.Generator().manual_seed(1)
    x, q, u = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in (
            (len(BATCH), 3),
            (len(QUERY_BATCH), 4),
            (4, model.condition_channels),
        )
    )
    x, q = x.requires_grad_(requires_grad), q.requires_grad_(requires_grad)
    return x, q, u if model.condition_channels else None


def reference(model, x, q, u=None):
    """One graph by plain loops over the blocks, in the words of the docstring."""

    def norm(layer, x):
        if u is None:
            return layer(x)
        scale, shift = (layer.modulation @ u[0]).chunk(2)
        return (
            nn.functional.layer_norm(x, x.shape[1:], layer.weight, layer.bias)
            * (1 + scale)
            + shift
        )

    source, query = model.source, model.query
    x, q = source.lift(x), query.lift(q)
    for block, reader in zip(source.blocks, query.blocks, strict=True):
        conv, mixer = block.mixer, reader.mixer
        h = norm(block.mixer_norm, x)
        k, v = (
            mlp(h).unflatten(1, (model.heads, -1))
            for mlp in (conv.key_mlp, conv.value_mlp)
        )
        scores = torch.einsum("hmd,nhd->hmn", conv.latents, k)
        z = torch.einsum("hmn,nhd->hmd", scores.softmax(2), v)
        y = torch.einsum("hmn,hmd->nhd", scores.softmax(1), z)
        x = x + conv.out(y.flatten(1))
        x = x + block.feed_forward(norm(block.feed_forward_norm, x))
        k = mixer.key_mlp(norm(reader.mixer_norm, q)).unflatten(1, (model.heads, -1))
        scores = torch.einsum("hmd,nhd->hmn", mixer.latents, k)
        y = torch.einsum("hmn,hmd->nhd", scores.softmax(1), z)
        q = q + mixer.out(y.flatten(1))
        q = q + reader.feed_forward(norm(reader.feed_forward_norm, q))
    return torch.cat(
        [source.head(source.norm(x)).flatten(), query.head(query.norm(q)).flatten()]
    )


@pytest.mark.parametrize("conditions", [0, 2])
@pytest.mark.parametrize("chunk_size", [None, 7])
def test_reference(chunk_size, conditions):
    model = network(chunk_size=chunk_size, condition_channels=conditions)
    x, q, u = points(model)
    u = None if u is None else u[:1]

    def actual(x, q, *parameters):
        return torch.cat([y.flatten() for y in model(x, q, u=u)])

    def expected(x, q, *parameters):
        return reference(model, x, q, u)

    assert_same_function(actual, expected, [x, q, *model.parameters()])


@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("chunk_size", [None, 6])
def test_source_fields_are_those_of_flare(chunk_size, qk_norm):
    model = network(chunk_size=chunk_size, qk_norm=qk_norm)
    x, q, _ = points(model)
    weight = torch.rand(len(x), dtype=torch.float64)
    y, _ = model(x, q, BATCH, QUERY_BATCH, 4, weight=weight)
    flare = FLARE(3, 8, 2, 3, 2, 5, kv_layers=1, qk_norm=qk_norm).double()
    flare.load_state_dict(model.source.state_dict())
    torch.testing.assert_close(
        y, flare(x, BATCH, 4, weight=weight), atol=1e-12, rtol=1e-12
    )


@pytest.mark.parametrize("chunk_size", [None, 5])
def test_a_query_depends_on_its_geometry_and_itself_alone(chunk_size):
    model = network(chunk_size=chunk_size, condition_channels=2)
    x, q, u = points(model)
    _, whole = model(x, q, BATCH, QUERY_BATCH, u=u)
    for i, graph in enumerate(QUERY_BATCH.tolist()):
        own = graph == BATCH
        _, alone = model(x[own], q[i : i + 1], u=u[graph : graph + 1])
        torch.testing.assert_close(alone[0], whole[i], atol=1e-10, rtol=1e-10)


def test_gradients_depend_on_no_other_query():
    model = network()
    x, q, u = points(model, requires_grad=True)
    for chosen in (slice(5, 6), slice(2, 9)):
        results = []
        for rows in (slice(None), chosen):
            f = model(x, q[rows], BATCH, QUERY_BATCH[rows], 4)[1]
            f = f[chosen] if rows == slice(None) else f
            results.append(
                torch.autograd.grad(
                    f.cos().sum(), [x, q, *model.parameters()], allow_unused=True
                )
            )
        torch.testing.assert_close(*results, atol=1e-10, rtol=1e-10)


def test_no_query_reaches_a_source_point_or_another_query():
    model = network()
    x, q, _ = points(model, requires_grad=True)
    y, f = model(x, q, BATCH, QUERY_BATCH)
    assert torch.autograd.grad(y.sum(), q, allow_unused=True) == (None,)
    (slope,) = torch.autograd.grad(f[6].sum(), q)
    assert slope[6].any() and not slope[torch.arange(len(q)) != 6].any()


@pytest.mark.parametrize("encoded_in", [None, 4, 1000])
@pytest.mark.parametrize("decoded_in", [None, 3])
def test_encode_once(encoded_in, decoded_in):
    model = network(condition_channels=2)
    x, q, u = points(model, requires_grad=True)
    _, expected = model(x, q, BATCH, QUERY_BATCH, u=u)
    model.chunk_size = encoded_in
    state = model.encode(x, BATCH, u=u)
    assert state.value.shape == (4, 3, 2, 5, 4) and state.num_graphs == 4
    assert (state.lse[2] == -torch.inf).all()
    model.chunk_size = decoded_in
    results = torch.cat(
        [
            model.decode(state, q[rows], QUERY_BATCH[rows])
            for rows in (slice(0, 5), slice(5, 5), slice(5, 17))
        ]
    )
    torch.testing.assert_close(results, expected, atol=1e-10, rtol=1e-10)
    leaves = [x, q, *model.parameters()]
    gradients = [
        torch.autograd.grad(f.cos().sum(), leaves, allow_unused=True)
        for f in (results, expected)
    ]
    torch.testing.assert_close(*gradients, atol=1e-10, rtol=1e-10)


def test_a_state_is_kept_in_a_file():
    model = network(condition_channels=2)
    x, q, u = points(model)
    state = model.encode(x, BATCH, u=u)
    file = io.BytesIO()
    torch.save(state.to_dict(), file)
    assert file.tell() < 4 * x.numel() * 64
    file.seek(0)
    again = GeometryState.from_dict(torch.load(file, weights_only=True))
    expected = model.decode(state, q, QUERY_BATCH)
    assert torch.equal(model.decode(again, q, QUERY_BATCH), expected)
    moved = again.to("meta")
    assert {t.device.type for t in moved.to_dict().values()} == {"meta"}
    assert "u" not in network().encode(x).to_dict()


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"value": torch.zeros(1, 3, 2, 5, 4)},
        {"value": torch.zeros(1, 3, 2, 5, 4), "lse": torch.zeros(1, 3, 2, 4)},
        {"value": torch.zeros(3, 2, 5, 4), "lse": torch.zeros(3, 2, 5)},
        {"value": torch.zeros(2, 3, 2, 5, 4), "lse": 1.0},
        {
            "value": torch.zeros(2, 3, 2, 5, 4),
            "lse": torch.zeros(2, 3, 2, 5),
            "u": torch.zeros(1, 2),
        },
    ],
)
def test_a_broken_file(tensors):
    with pytest.raises(ValueError, match="^tensors holds"):
        GeometryState.from_dict(tensors)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_layers": 2},
        {"heads": 4},
        {"num_latents": 6},
        {"condition_channels": 2},
    ],
)
def test_the_state_of_another_model(changes):
    x, q, _ = points(network())
    state = network().encode(x)
    with pytest.raises(ValueError, match="^state .*(3, 2, 5, 4)"):
        network(**changes).decode(state, q)


@pytest.mark.parametrize("chunk_size", [None, 8])
@pytest.mark.parametrize(
    "law",
    [
        assert_weights_split,
        assert_weights_scale,
        assert_weights_of_one,
        assert_weightless_points_receive,
    ],
)
def test_weights(law, chunk_size):
    model = FLAREQuery(3, 8, 2, 3, 2, num_layers=2, heads=2, num_latents=5)
    model.chunk_size = chunk_size
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    law(BothStreams(model.double()), 3, (2, 20, 0, 30))


def shares(rank):
    """All source points on the first process, some queries on each."""
    rows = torch.full(BATCH.shape, rank == 0)
    return rows, torch.arange(len(QUERY_BATCH)) % 2 == rank


def on_a_process(model):
    group = torch.distributed.group.WORLD
    (x, q, _), (rows, queries) = points(model), shares(group.rank())
    y, f = model(x[rows], q[queries], BATCH[rows], QUERY_BATCH[queries], group=group)
    state = model.encode(x[rows], BATCH[rows], 4, group)
    return [y.detach(), f.detach(), *state.to_dict().values()]


def test_processes_with_other_points_and_with_none():
    model = network()
    results = run_processes(on_a_process, 2, model)
    x, q, _ = points(model)
    y, f = model(x, q, BATCH, QUERY_BATCH)
    state = model.encode(x, BATCH, 4).to_dict().values()
    for rank, result in enumerate(results):
        rows, queries = shares(rank)
        for part, expected in zip(result, [y[rows], f[queries], *state], strict=True):
            torch.testing.assert_close(part, expected, atol=1e-10, rtol=1e-10)


def kept_bytes(model, queries):
    """Bytes that forward keeps for backward, each storage once."""
    x = torch.rand(40, 3).double()
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(x, torch.rand(queries, 4).double())[1].sum()
    loss.backward()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("num_layers", [1, 4])
def test_backward_in_chunks_keeps_only_the_input_of_queries(num_layers):
    model = network(num_layers=num_layers, chunk_size=50)
    more = kept_bytes(model, 1000) - kept_bytes(model, 200)
    assert more == 800 * 4 * 8  # rows, channels, bytes of a number
    model.chunk_size = None
    assert kept_bytes(model, 1000) - kept_bytes(model, 200) > 10 * more


def test_no_points_at_all():
    model = network()
    x, q, _ = points(model)
    y, f = model(x[:0], q)
    assert y.shape == (0, 2) and f.isfinite().all()
    y, f = model(x, q[:0])
    assert f.shape == (0, 3) and y.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"query_x": torch.zeros(5, 3).double()}, r"^query_x .*\(5, 3\)"),
        ({"u": torch.zeros(4, 2).double()}, r"^u .*\(4, 2\)"),
        ({"query_batch": torch.tensor([4] * 17)}, "batch .*4"),
        ({"batch_size": 3}, "batch .*3"),
    ],
)
def test_user_errors(arguments, message):
    model = network()
    x, q, _ = points(model)
    given = {"batch": BATCH, "query_batch": QUERY_BATCH, "batch_size": 4}
    with pytest.raises(ValueError, match=message):
        model(**{"x": x, "query_x": q, **given, **arguments})


def test_sizes():
    with pytest.raises(ValueError, match="^query_channels is 0"):
        FLAREQuery(3, 8, 2, 0, 3)
    with pytest.raises(ValueError, match="^query_out_channels is 0"):
        FLAREQuery(3, 8, 2, 3, 0)
    with pytest.raises(ValueError, match="^chunk_size is 0"):
        FLAREQuery(3, 8, 2, 3, 3, chunk_size=0)


def test_the_start_carries_queries():
    torch.manual_seed(0)
    model = FLAREQuery(3, 64, 1, 3, 1, num_layers=1, heads=4, num_latents=16)
    q = torch.randn(1000, 3)
    assert 0.3 < model.query.lift(q).std() < 3
    mixer = model.query.blocks[0].mixer
    k = mixer.key_mlp(nn.functional.layer_norm(model.query.lift(q), (64,)))
    scores = torch.einsum("hmd,nhd->nhm", mixer.latents, k.unflatten(1, (4, -1)))
    assert 0.3 < scores.std() < 3
    paper = FLAREQuery(3, 64, 1, 3, 1, 1, 4, 16, init="paper")
    assert paper.query.lift(q).std() < 0.1


def test_what_optimizers_see():
    model = network()
    matrices = {p for p in hidden_matrices(model)}
    for block in (*model.source.blocks, *model.query.blocks):
        assert block.mixer.out.weight in matrices
        assert block.feed_forward.layers[0].weight in matrices
    for stream in (model.source, model.query):
        assert not matrices & {*stream.lift.parameters(), *stream.head.parameters()}
    _, exempt = parameter_groups(model, 0.1)
    exempt = {*exempt["params"]}
    for module in model.modules():
        if isinstance(module, FLAREConv) or hasattr(module, "latents"):
            assert module.latents in exempt


def test_a_module_without_networks_inside_has_the_matrices_of_its_lists():
    readout = LatentReadout(3, 8, 1, heads=2)
    assert hidden_matrices(readout) == []


def test_round_trips():
    model = network(chunk_size=9, condition_channels=1, act="relu", qk_norm=True)
    described = describe_model(model)
    other = FLAREQuery(**described["arguments"]).double()
    other.load_state_dict(model.state_dict())
    assert str(other) == str(model) and other.chunk_size == 9
    x, q, u = points(model)
    assert torch.equal(other(x, q, u=u[:1])[1], model(x, q, u=u[:1])[1])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7)
    model.reset_parameters()
    assert not any((p == 7).any() for p in model.parameters())


@pytest.mark.parametrize("chunk_size", [None, 64])
def test_it_learns(chunk_size):
    """The distance to the nearest of a few source points, which differ by graph."""
    torch.manual_seed(0)
    model = FLAREQuery(
        2, 16, 1, 2, 1, 2, 2, 8, 1, 1, chunk_size=chunk_size, lift_layers=1
    )
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    centre = torch.rand(8, 2) - 0.5
    angle = torch.rand(8, 20) * 6.3
    x = centre[:, None] + 0.3 * torch.stack([angle.cos(), angle.sin()], 2)
    q = torch.rand(8, 20, 2) * 2 - 1
    target = (q - centre[:, None]).norm(dim=2).flatten()[:, None]
    batch = torch.arange(8).repeat_interleave(20)
    losses = []
    for _ in range(60 if chunk_size is None else 3):
        optimizer.zero_grad()
        _, f = model(x.flatten(0, 1), q.flatten(0, 1), batch, batch)
        loss = (f - target).square().mean() / target.var()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < (0.3 * losses[0] if chunk_size is None else losses[0])
