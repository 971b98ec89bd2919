import copy
import pickle

import pytest
import torch
from torch_geometric.data import Batch, Data

from torch_geometric_flare.nn import MeshGraphNet
from torch_geometric_flare.surrogates import Surrogate, load_surrogate, save_surrogate
from torch_geometric_flare.transforms import KNNEdges, MeshEdges, Normalizer


def small(**options):
    arguments = {"num_layers": 2, "edge_channels": 3, "length_scale": 0.5}
    return MeshGraphNet(3, 8, 2, **{**arguments, **options})


def sample(points=63):
    pos = torch.rand(points, 2)
    return KNNEdges(4)(Data(pos=pos, x=torch.randn(points, 3)))


def test_encode_process_decode():
    model, data = small(), sample()
    source, target = data.edge_index
    offset = (data.pos[source] - data.pos[target]) / 0.5
    edge_attr = torch.cat([offset, offset.norm(dim=1, keepdim=True)], 1)
    edges, x = model.edge_encoder(edge_attr), model.node_encoder(data.x)
    for encoded in (edges, x):
        torch.testing.assert_close(
            encoded.mean(1), torch.zeros(len(encoded)), atol=1e-5, rtol=0
        )
    for layer in model.layers:
        x, edges = layer(x, data.edge_index, edges)
    expected = model.decoder(x)
    torch.testing.assert_close(model(data.x, data.pos, data.edge_index), expected)
    given = model(data.x, data.pos, data.edge_index, edge_attr)
    torch.testing.assert_close(given, expected)


def test_size_of_the_published_network():
    model = MeshGraphNet(3, 128, 1)
    assert len(model.layers) == 15
    mlp = 2 * (128 * 128 + 128) + 2 * 128  # the layers after the first, and the norm

    def first(width):
        return width * 128 + 128

    steps = 15 * (first(3 * 128) + first(2 * 128) + 2 * mlp)
    encoders = first(3) + first(4) + 2 * mlp
    decoder = 2 * (128 * 128 + 128) + 129
    assert sum(p.numel() for p in model.parameters()) == encoders + steps + decoder


def test_it_hears_as_far_as_its_layers():
    model = small(num_layers=3)
    chain = torch.arange(9)
    edge_index = torch.stack([chain[:-1], chain[1:]])  # messages go upwards only
    pos = torch.rand(9, 2)
    x = torch.randn(9, 3, requires_grad=True)
    (grad,) = torch.autograd.grad(model(x, pos, edge_index)[5].sum(), x)
    heard = grad.abs().sum(1) > 0
    assert heard.tolist() == [False, False] + [True] * 4 + [False] * 3


def test_translations_change_nothing():
    model, data = small(), sample()
    moved = model(data.x, data.pos + 3, data.edge_index)
    torch.testing.assert_close(
        moved, model(data.x, data.pos, data.edge_index), atol=1e-4, rtol=1e-4
    )


def test_few_points_and_no_edges():
    model, none = small(), torch.empty(2, 0, dtype=torch.long)
    for points in (0, 1, 5):
        y = model(torch.randn(points, 3), torch.rand(points, 2), none)
        assert y.shape == (points, 2) and y.isfinite().all()


def test_edges_of_no_length_have_gradients():
    model = small()
    pos = torch.zeros(4, 2, requires_grad=True)
    edge_index = torch.tensor([[0, 1, 2], [0, 2, 3]])
    model(torch.randn(4, 3), pos, edge_index).sum().backward()
    assert pos.grad.isfinite().all()


def test_lower_precision():
    model, data = small().double(), sample()
    pos, edge_index = data.pos + 100, data.edge_index  # far from the origin
    expected = model(data.x.double(), pos, edge_index)
    scale = expected.abs().max().item()
    single = copy.deepcopy(model).float()
    found = single(data.x, pos, edge_index)
    torch.testing.assert_close(found.double(), expected, atol=1e-4 * scale, rtol=0)
    half = copy.deepcopy(model).bfloat16()(data.x.bfloat16(), pos, edge_index)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), expected, atol=0.1 * scale, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = single(data.x, pos, edge_index)
    torch.testing.assert_close(mixed.double(), expected, atol=0.1 * scale, rtol=0)


@pytest.mark.slow
def test_compile_without_graph_break():
    model = small(num_layers=1)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=True)
    for points in (40, 63):
        data = sample(points)
        arguments = data.x, data.pos, data.edge_index
        torch.testing.assert_close(compiled(*arguments), model(*arguments))


def test_as_a_surrogate(tmp_path):
    samples = [Data(pos=torch.rand(n, 2), x=torch.randn(n, 3)) for n in (20, 9)]
    batch = MeshEdges()(Batch.from_data_list(samples))
    surrogate = Surrogate(small(), Normalizer.identity(2))
    expected = surrogate.model(batch.x, batch.pos, batch.edge_index)
    torch.testing.assert_close(surrogate.predict(batch), expected)
    save_surrogate(surrogate, tmp_path / "model.pt")
    loaded = load_surrogate(tmp_path / "model.pt")
    assert type(loaded.model) is MeshGraphNet
    torch.testing.assert_close(loaded.predict(batch), expected)


def test_round_trips_and_reset():
    model, data = small(), sample()
    expected = model(data.x, data.pos, data.edge_index)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(data.x, data.pos, data.edge_index), expected)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7)
    model.reset_parameters()
    for name, parameter in model.named_parameters():
        assert not (parameter == 7).any(), name


def test_repr():
    expected = "MeshGraphNet(3, 8, 2, num_layers=2, mlp_layers=2, edge_channels=3)"
    assert str(small()) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 0}, "num_layers is 0"),
        ({"mlp_layers": 0}, "mlp_layers is 0"),
        ({"edge_channels": 0}, "edge_channels is 0"),
        ({"length_scale": -1.0}, "length_scale is -1.0, expected a positive length"),
    ],
)
def test_arguments_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_input_that_does_not_fit():
    model, data = small(), sample()
    with pytest.raises(ValueError, match=r"x has shape \(63, 2\), expected \[N, 3\]"):
        model(data.pos, data.pos, data.edge_index)
    with pytest.raises(ValueError, match=r"pos has shape \(63, 3\), expected \[N, 2\]"):
        model(data.x, data.x, data.edge_index)
    with pytest.raises(ValueError, match="edge_attr has shape .*: one row"):
        model(data.x, data.pos, data.edge_index, torch.ones(3, 3))
