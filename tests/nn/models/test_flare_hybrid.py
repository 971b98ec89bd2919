import copy
import pickle

import pytest
import torch
from torch_geometric.data import Batch, Data

from torch_geometric_flare import PointBatch
from torch_geometric_flare.nn import FLARE, FLAREHybrid, predict_stream
from torch_geometric_flare.surrogates import Surrogate, load_surrogate, save_surrogate
from torch_geometric_flare.transforms import Normalizer, RadiusEdges


def small(**options):
    arguments = {"pos_channels": 2, "radius": 0.5, "num_layers": 2, "heads": 2}
    model = FLAREHybrid(3, 8, 2, num_latents=5, **{**arguments, **options})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model


def sample(points=63, radius=0.5):
    data = Data(pos=torch.rand(points, 2), x=torch.randn(points, 3))
    return RadiusEdges(radius)(data)


def edges_of(data):
    return data.pos, data.edge_index, data.edge_weight


def test_formula():
    model, data = small().double(), sample().to("cpu")
    x = data.x.double()
    pos, edge_index, weight = (
        t.double() if t.is_floating_point() else t for t in edges_of(data)
    )
    y = model.lift(x)
    for block in model.blocks:
        y = y + block.local(block.local_norm(y), pos, edge_index, weight)
        y = y + block.mixer(block.mixer_norm(y))
        y = y + block.feed_forward(block.feed_forward_norm(y))
    expected = model.head(model.norm(y))
    torch.testing.assert_close(model(x, pos, edge_index, weight), expected)


def test_without_edges_it_is_flare():
    model, data = small(), sample()
    for block in model.blocks:
        torch.nn.init.zeros_(block.local.out.bias)
    flare = FLARE(3, 8, 2, 2, heads=2, num_latents=5, kv_layers=-1, mlp_layers=1)
    state = {n: p for n, p in model.state_dict().items() if ".local" not in n}
    flare.load_state_dict(state)
    none = torch.empty(2, 0, dtype=torch.long)
    torch.testing.assert_close(model(data.x, data.pos, none), flare(data.x))
    assert not torch.allclose(model(data.x, *edges_of(data)), flare(data.x))


def test_graphs_that_the_layout_reorders():
    model = small().double()
    samples = [sample(points, 0.1) for points in (10, 900, 20, 905)]
    batch = Batch.from_data_list(samples)
    assert PointBatch.from_batch(batch.x, batch.batch).order is not None
    found = model(batch.x.double(), *edges_of(batch), batch.batch)
    expected = torch.cat([model(d.x.double(), *edges_of(d)) for d in samples])
    torch.testing.assert_close(found, expected)


def test_a_layout_made_before():
    model, batch = small(), Batch.from_data_list([sample(5), sample(9)])
    layout = PointBatch.from_sizes([5, 9])
    assert layout.order is None
    expected = model(batch.x, *edges_of(batch), batch.batch)
    torch.testing.assert_close(model(batch.x, *edges_of(batch), layout), expected)


def test_no_points():
    model = small()
    none = torch.empty(2, 0, dtype=torch.long)
    assert model(torch.empty(0, 3), torch.empty(0, 2), none).shape == (0, 2)
    batch = torch.empty(0, dtype=torch.long)
    out = model(torch.empty(0, 3), torch.empty(0, 2), none, None, batch, 3)
    assert out.shape == (0, 2)


def test_it_never_streams():
    model, data = small(), sample()
    with pytest.raises(ValueError, match="LocalConv"):
        predict_stream(model, data.x, torch.empty(63, 2), chunk_size=10)
    with pytest.raises(TypeError, match="chunk_size"):
        small(chunk_size=10)


def test_lower_precision():
    model, data = small().double(), sample()
    expected = model(data.x.double(), *edges_of(data))
    scale = expected.abs().max().item()
    single = copy.deepcopy(model).float()
    found = single(data.x, *edges_of(data))
    torch.testing.assert_close(found.double(), expected, atol=1e-4 * scale, rtol=0)
    half = copy.deepcopy(model).bfloat16()(data.x.bfloat16(), *edges_of(data))
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), expected, atol=0.1 * scale, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = single(data.x, *edges_of(data))
    torch.testing.assert_close(mixed.double(), expected, atol=0.1 * scale, rtol=0)


@pytest.mark.slow
def test_compile_without_graph_break():
    model = small(num_layers=1)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=True)
    for points in (40, 63):
        data = sample(points)
        arguments = data.x, *edges_of(data)
        torch.testing.assert_close(compiled(*arguments), model(*arguments))


def test_as_a_surrogate(tmp_path):
    model = small()
    surrogate = Surrogate(model, Normalizer([1.0, 2.0], [3.0, 4.0]))
    batch = Batch.from_data_list([sample(20), sample(9)])
    expected = model(batch.x, *edges_of(batch), batch.batch)
    expected = expected * torch.tensor([3.0, 4.0]) + torch.tensor([1.0, 2.0])
    torch.testing.assert_close(surrogate.predict(batch), expected)
    save_surrogate(surrogate, tmp_path / "model.pt")
    loaded = load_surrogate(tmp_path / "model.pt")
    assert type(loaded.model) is FLAREHybrid
    torch.testing.assert_close(loaded.predict(batch), expected)
    del batch.edge_index
    with pytest.raises(ValueError, match="needs the field 'edge_index'"):
        surrogate.predict(batch)


def test_a_step_lowers_the_error():
    model, data = FLAREHybrid(3, 16, 1, 2, 0.3, num_layers=2), sample(200, 0.3)
    target = (3 * data.pos[:, :1]).sin()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        loss = (model(data.x, *edges_of(data)) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(p.grad is not None for p in model.parameters())
    assert losses[-1] < 0.3 * losses[0]


def test_round_trips_and_reset():
    model, data = small(), sample()
    expected = model(data.x, *edges_of(data))
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(data.x, *edges_of(data)), expected)
    model = small(qk_norm=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7)
    model.reset_parameters()
    for name, parameter in model.named_parameters():
        assert not (parameter == 7).any(), name


def test_repr():
    assert str(small()) == (
        "FLAREHybrid(3, 8, 2, pos_channels=2, radius=0.5, num_layers=2, heads=2, "
        "num_latents=5)"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 0}, "num_layers is 0"),
        ({"radius": 0.0}, "radius is 0.0, expected a positive length"),
        ({"pos_channels": 0}, "pos_channels is 0"),
        ({"heads": 3}, "hidden_channels is 8, which .*heads=3"),
        ({"kv_layers": -2}, "kv_layers is -2"),
        ({"mlp_layers": -2}, "mlp_layers is -2"),
    ],
)
def test_arguments_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_input_that_does_not_fit():
    model, data = small(), sample()
    with pytest.raises(ValueError, match=r"x has shape \(63, 2\), expected \[N, 3\]"):
        model(data.pos, *edges_of(data))
    with pytest.raises(ValueError, match=r"pos has shape \(63, 3\), expected \[N, 2\]"):
        model(data.x, data.x, data.edge_index)
    with pytest.raises(ValueError, match="edge_weight has shape"):
        model(data.x, data.pos, data.edge_index, torch.ones(3))
    with pytest.raises(ValueError, match="unsorted"):
        batch = torch.tensor([1] * 30 + [0] * 33)
        model(data.x, *edges_of(data), batch)
