import numpy as np
import pytest
import torch
import torch_geometric
from torch import nn

from torch_geometric_flare import FLARE
from torch_geometric_flare.nn import predict_stream


def network(num_layers=3, width=16, **changes):
    model = FLARE(
        3, width, 2, num_layers, heads=4, num_latents=8, kv_layers=1, **changes
    )
    for parameter in model.parameters():  # scores and updates that matter
        nn.init.normal_(parameter, std=0.3)
    return model


def predict(model, x, chunk_size, **options):
    y = torch.full((len(x), 2), torch.nan, dtype=torch.float64)
    predict_stream(model, x, y, chunk_size, **options)
    return y


@torch.no_grad()
def in_memory(model, x):
    training = model.training
    y = model.eval()(x).double()
    model.train(training)
    return y


@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize("chunk_size", [1, 7, 64, 500, 501, 10_000])
def test_double_precision(chunk_size, in_file, tmp_path):
    model = network(qk_norm=True).double()
    x = torch.rand(500, 3, dtype=torch.float64)
    where = {"residual_dir": tmp_path} if in_file else {}
    y = predict(model, x, chunk_size, **where)
    torch.testing.assert_close(y, in_memory(model, x), atol=1e-12, rtol=1e-12)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_single_precision_over_thousands_of_chunks():
    model, x = network(num_layers=1), torch.rand(2000, 3)
    y = predict(model, x, chunk_size=1)
    exact = in_memory(model.double(), x.double())
    assert (y - exact).norm() < 1e-5 * exact.norm()
    assert (y - exact).abs().max() < 1e-5 * exact.abs().max()


def test_a_file_changes_no_bit(tmp_path):
    model, x = network(), torch.rand(500, 3)
    y = predict(model, x, 64)
    assert torch.equal(predict(model, x, 64, residual_dir=tmp_path), y)
    assert torch.equal(predict(model, x, 64, residual_dir=str(tmp_path)), y)
    half = {"residual_dtype": torch.bfloat16}
    rounded = predict(model, x, 64, **half)
    assert torch.equal(predict(model, x, 64, residual_dir=tmp_path, **half), rounded)


@pytest.mark.parametrize(
    ("dtype", "lowest", "highest"),
    [
        (torch.float64, 0, 1e-6),
        (torch.float32, 0, 1e-6),
        (torch.float16, 1e-5, 3e-3),
        (torch.bfloat16, 1e-4, 3e-2),
    ],
)
def test_precision_of_the_residual(dtype, lowest, highest):
    model, x = network(), torch.rand(500, 3)
    y = predict(model, x, 64, residual_dtype=dtype)
    expected = in_memory(model, x)
    assert lowest <= (y - expected).norm() / expected.norm() < highest


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_model_in_half_precision(dtype, tmp_path):
    model, x = network().to(dtype), torch.rand(100, 3)
    y = torch.empty(100, 2, dtype=dtype)
    predict_stream(model, x, y, 30, residual_dir=tmp_path)
    expected = in_memory(model, x.to(dtype))
    assert (y - expected).norm() < 0.05 * expected.norm()
    sink = np.empty((100, 2), np.float32)  # NumPy has no bfloat16
    predict_stream(model, x.numpy(), sink, 30)
    assert np.array_equal(sink, y.float().numpy())


class Rows:
    """As little as an array can have; keeps what is asked of it."""

    def __init__(self, values):
        self.values, self.shape = values, values.shape
        self.read, self.written = [], []

    def __getitem__(self, rows):
        self.read.append((rows.start, rows.stop))
        return self.values[rows]

    def __setitem__(self, rows, values):
        self.written.append((rows.start, rows.stop))
        self.values[rows] = values


def test_each_row_is_read_once_and_written_once():
    model, x = network(), np.random.default_rng(0).random((20, 3), np.float32)
    source, sink = Rows(x), Rows(np.empty((20, 2), np.float32))
    predict_stream(model, source, sink, 8)
    assert source.read == sink.written == [(0, 8), (8, 16), (16, 20)]
    assert source.written == sink.read == []
    expected = in_memory(model, torch.from_numpy(x)).float().numpy()
    np.testing.assert_allclose(sink.values, expected, rtol=1e-5, atol=1e-6)


def test_memory_maps(tmp_path):
    model, x = network(), np.random.default_rng(0).random((100, 3), np.float32)
    np.save(tmp_path / "x.npy", x)
    source = np.load(tmp_path / "x.npy", mmap_mode="r")
    sink = np.lib.format.open_memmap(
        tmp_path / "y.npy", mode="w+", dtype=np.float32, shape=(100, 2)
    )
    predict_stream(model, source, sink, 30)
    sink.flush()
    expected = predict(model, torch.from_numpy(x), 30).numpy()
    assert np.array_equal(np.load(tmp_path / "y.npy"), expected)
    again = np.load(tmp_path / "y.npy", mmap_mode="r")
    with pytest.raises(ValueError, match="sink is read-only: .* mode='r\\+'"):
        predict_stream(model, source, again, 30)


def test_zarr(tmp_path):
    zarr = pytest.importorskip("zarr")
    model, x = network(), np.random.default_rng(0).random((100, 3), np.float32)
    arrays = {
        name: zarr.create_array(
            tmp_path / name, shape=(100, width), chunks=(40, width), dtype="float32"
        )
        for name, width in (("x", 3), ("y", 2))
    }
    arrays["x"][:] = x
    predict_stream(model, arrays["x"], arrays["y"], 30)
    expected = predict(model, torch.from_numpy(x), 30).numpy()
    assert np.array_equal(arrays["y"][:], expected)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: np.asfortranarray(x),
        lambda x: np.ascontiguousarray(x[::-1])[::-1],
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        lambda x: x.astype(">f4"),
        lambda x: x.astype(np.float64),
        lambda x: torch.from_numpy(x).T.contiguous().T,
        lambda x: torch.from_numpy(x).double().requires_grad_(),
    ],
)
def test_other_layouts_and_types(view):
    model, x = network(), np.random.default_rng(0).random((50, 3), np.float32)
    expected = predict(model, torch.from_numpy(x), 16)
    assert torch.equal(predict(model, view(x), 16), expected)
    sink = np.full((2, 2 * 50), np.nan, ">f8").T[::2]
    predict_stream(model, view(x), sink, 16)
    assert np.array_equal(sink, expected.numpy())


def test_sink_may_be_source():
    model = FLARE(2, 8, 2, num_layers=2, heads=2, num_latents=4)
    x = torch.rand(50, 2)
    expected = in_memory(model, x).float()
    predict_stream(model, x, x, 16)
    torch.testing.assert_close(x, expected)


def test_evaluation_mode_and_back():
    model = network(act=nn.Dropout(0.5))
    model.blocks[1].eval()
    modes = [module.training for module in model.modules()]
    assert True in modes and False in modes
    x = torch.rand(50, 3)
    y = predict(model, x, 16)
    expected = in_memory(network_like(model), x)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(OSError, match="no more"):
        predict_stream(model, Broken(x), torch.empty(50, 2), 16)
    assert [module.training for module in model.modules()] == modes


def network_like(model):
    """The same network with nothing where dropout was."""
    other = network(act=nn.Identity())
    other.load_state_dict(model.state_dict())
    return other


class Broken(Rows):
    def __getitem__(self, rows):
        if rows.start > 0:
            raise OSError("no more")
        return super().__getitem__(rows)


def test_an_error_leaves_the_sink_and_no_file(tmp_path):
    y = torch.full((50, 2), 7.0)
    with pytest.raises(OSError, match="no more"):
        predict_stream(
            network(), Broken(torch.rand(50, 3)), y, 16, residual_dir=tmp_path
        )
    assert (y == 7).all()
    assert list(tmp_path.iterdir()) == []


def test_autocast(monkeypatch):
    monkeypatch.setattr("torch_geometric_flare.nn.autocast.CPU_COMPUTES_BF16", True)
    model, x = (
        network(width=12),
        torch.rand(200, 3),
    )  # of no whole vectors: autocast stays
    seen = set()
    layer = model.blocks[1].feed_forward.layers[0]
    layer.register_forward_hook(lambda module, args, out: seen.add(out.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = predict(model, x, 64)
        expected = in_memory(model, x)
    assert seen == {torch.bfloat16}
    assert (y - expected).norm() < 0.02 * expected.norm()
    assert not torch.equal(y, predict(model, x, 64))


def test_no_points():
    y = predict(network(), torch.empty(0, 3), 5)
    assert y.shape == (0, 2)


def test_model_and_gradients_are_left_alone():
    model, x = network(), torch.rand(50, 3)
    y = torch.empty(50, 2)
    predict_stream(model, x, y, 16)
    assert not y.requires_grad and not y.is_inference()
    model(x).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": torch.rand(50, 4)}, r"source has shape \(50, 4\).*\[N, 3\]"),
        ({"source": torch.rand(50)}, r"source has shape \(50,\), expected \[N, 3\]"),
        ({"source": torch.rand(1, 50, 3)}, "source has shape .*one graph"),
        ({"sink": torch.empty(50, 1)}, r"sink has shape \(50, 1\).*\(50, 2\)"),
        ({"sink": np.empty((49, 2))}, r"sink has shape \(49, 2\).*\(50, 2\)"),
        ({"sink": torch.empty(50, 2, dtype=torch.int32)}, "sink has dtype torch.int32"),
        ({"sink": np.empty((50, 2), np.int64)}, "sink has dtype int64"),
        ({"chunk_size": 0}, "chunk_size is 0, expected a positive"),
        ({"chunk_size": -4}, "chunk_size is -4, expected a positive"),
        ({"chunk_size": None}, "chunk_size is None, .* at once call the model"),
        ({"residual_dtype": "half"}, "residual_dtype is 'half', .* torch.float16"),
        ({"residual_dtype": torch.int8}, "residual_dtype is torch.int8"),
    ],
)
def test_wrong_arguments(change, message):
    arguments = {
        "source": torch.rand(50, 3),
        "sink": torch.empty(50, 2),
        "chunk_size": 16,
        **change,
    }
    with pytest.raises(ValueError, match=message):
        predict_stream(network(), **arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": [[0.0, 0.0, 0.0]]}, "source is a list, expected an array"),
        ({"sink": [[0.0, 0.0]]}, "sink is a list, expected an array"),
        ({"model": nn.Sequential(nn.Linear(3, 2))}, "is a Sequential without .* lift"),
    ],
)
def test_wrong_types(change, message):
    x, y = torch.rand(1, 3), torch.empty(1, 2)
    arguments = {"model": network(), "source": x, "sink": y, "chunk_size": 1, **change}
    with pytest.raises(TypeError, match=message):
        predict_stream(**arguments)


def test_folder_must_exist(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="residual_dir='.*absent' is not a folder"
    ):
        predict(network(), torch.rand(5, 3), 2, residual_dir=tmp_path / "absent")


def test_debug_mode_names_the_source():
    x = torch.rand(50, 3)
    x[30, 1] = torch.nan
    assert predict(network(), x, 16).isnan().all()
    with (
        torch_geometric.debug(),
        pytest.raises(ValueError, match="source holds 1 values that are not finite"),
    ):
        predict(network(), x, 16)
