import numpy as np
import pytest
import torch
from torch import nn

from torch_geometric_flare.nn import FLAREQuery, decode_stream, encode_stream


def network(**changes):
    torch.manual_seed(0)
    model = FLAREQuery(3, 8, 2, 4, 3, 3, 2, 5, kv_layers=1, **changes)
    for parameter in model.parameters():  # scores and updates that matter
        nn.init.normal_(parameter, std=0.3)
    return model.double()


@pytest.mark.parametrize("chunk_size", [100, 999, 10_000])
def test_from_memory_maps_to_memory_maps(chunk_size, tmp_path):
    model = network(condition_channels=2)
    x, q = torch.rand(3000, 3).double(), torch.rand(4000, 4).double()
    weight, u = torch.rand(3000).double(), torch.rand(1, 2).double()
    files = {}
    for name, shape in {
        "x": (3000, 3),
        "q": (4000, 4),
        "y": (3000, 2),
        "f": (4000, 3),
    }.items():
        path = tmp_path / f"{name}.npy"
        files[name] = np.lib.format.open_memmap(path, "w+", np.float64, shape)
    files["x"][:], files["q"][:] = x.numpy(), q.numpy()
    state = encode_stream(
        model,
        files["x"],
        chunk_size,
        sink=files["y"],
        weight=weight.numpy(),
        u=u.numpy(),
        residual_dir=tmp_path,
    )
    decode_stream(model, state, files["q"], files["f"], chunk_size)
    y, f = model(x, q, weight=weight, u=u)
    whole = model.encode(x, weight=weight, u=u)
    for actual, expected in (
        (torch.from_numpy(files["y"]), y),
        (torch.from_numpy(files["f"]), f),
        (state.value, whole.value),
        (state.lse, whole.lse),
        (state.u, u),
    ):
        torch.testing.assert_close(actual, expected.detach(), atol=1e-10, rtol=1e-10)
    assert model.training


def test_a_streamed_state_takes_part_in_training():
    model = network()
    x, q = torch.rand(50, 3).double(), torch.rand(20, 4).double().requires_grad_()
    state = encode_stream(model, x, 16)
    f = model.decode(state, q)
    torch.testing.assert_close(f, model(x, q)[1], atol=1e-10, rtol=1e-10)
    f.sum().backward()
    assert q.grad.any()


def test_empty_files():
    model = network()
    x, q = torch.rand(50, 3).double(), torch.rand(20, 4).double()
    actual = torch.empty(20, 3).double()
    decode_stream(model, encode_stream(model, x[:0], 16), q, actual, 7)
    torch.testing.assert_close(actual, model(x[:0], q)[1].detach())
    decode_stream(model, encode_stream(model, x, 16), q[:0], actual[:0], 7)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"source": torch.zeros(5, 3)}, ValueError, r"^source .*\(5, 3\)"),
        ({"source": [[0.0]]}, TypeError, "^source is a list"),
        ({"sink": torch.zeros(4, 3)}, ValueError, r"^sink .*\(4, 3\)"),
        ({"chunk_size": 0}, ValueError, "^chunk_size is 0"),
        ({"graphs": 2}, ValueError, "^state has 2 graphs"),
    ],
)
def test_user_errors(arguments, error, message):
    model = network()
    state = model.encode(torch.rand(9, 3).double())
    graphs = arguments.pop("graphs", 1)
    if graphs > 1:
        batch = torch.arange(9) // 5
        state = model.encode(torch.rand(9, 3).double(), batch)
    given = {"source": torch.zeros(5, 4), "sink": torch.zeros(5, 3), "chunk_size": 2}
    with pytest.raises(error, match=message):
        decode_stream(model, state, **{**given, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sink": torch.zeros(5, 3)}, r"^sink .*\(5, 3\)"),
        ({"weight": np.zeros(4)}, "^weight is"),
        ({"chunk_size": 1.5}, "^chunk_size is 1.5"),
        ({"source": np.zeros((5, 4))}, r"^source .*\(5, 4\)"),
    ],
)
def test_user_errors_of_the_source(arguments, message):
    given = {"source": torch.zeros(5, 3), "chunk_size": 2}
    with pytest.raises(ValueError, match=message):
        encode_stream(network(), **{**given, **arguments})
