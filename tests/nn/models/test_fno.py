import copy
import sys
import warnings

import pytest
import torch

from torch_geometric_flare.nn import FNO
from torch_geometric_flare.surrogates import Surrogate, load_surrogate, save_surrogate
from torch_geometric_flare.training import parameter_groups
from torch_geometric_flare.transforms import Normalizer


def test_without_neuraloperator(monkeypatch):
    monkeypatch.setitem(sys.modules, "neuralop.models", None)
    with pytest.raises(ImportError, match=r"pip install .\.\[fno\]"):
        FNO(3, 8, 1, grid=(5, 4), modes=(4, 4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": (5,)}, r"grid is \(5,\), expected two positive integers"),
        ({"modes": (4, 0)}, r"modes is \(4, 0\), expected two positive integers"),
        ({"modes": (4, 6)}, r"modes is \(4, 6\), more than the points of grid=\(5, 4"),
        ({"num_layers": 0}, "num_layers is 0"),
    ],
)
def test_sizes_that_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FNO(3, 8, 2, **{"grid": (5, 4), "modes": (4, 4), **options})


@pytest.fixture
def model():
    with warnings.catch_warnings():
        pytest.importorskip("neuralop")
    torch.manual_seed(0)
    return FNO(3, 8, 2, grid=(5, 4), num_layers=2, modes=(4, 4))


def test_rows_are_images_and_rows_again(model):
    x = torch.randn(40, 3)
    y = model(x, torch.arange(40) // 20)
    image = torch.empty(2, 3, 5, 4)
    for n in range(40):
        image[n // 20, :, n % 20 // 4, n % 4] = x[n]
    expected = model.network(image)
    for n in (0, 7, 19, 20, 39):
        place = n // 20, slice(None), n % 20 // 4, n % 4
        torch.testing.assert_close(y[n], expected[place])


def test_the_import_leaves_warnings_alone(model):
    for name in [name for name in sys.modules if name.startswith("neuralop.models")]:
        del sys.modules[name]
    before = list(warnings.filters)
    copy.deepcopy(model).reset_parameters()
    assert warnings.filters == before


def test_the_state_holds_tensors_alone(model):
    assert all(isinstance(value, torch.Tensor) for value in model.state_dict().values())


@pytest.mark.parametrize(
    "cast", [lambda m: m.double(), lambda m: m.to(torch.float64)], ids=["double", "to"]
)
def test_casts_keep_the_imaginary_parts(model, cast):
    x = torch.randn(20, 3)
    y = model(x)
    wide = cast(copy.deepcopy(model))
    assert {p.dtype for p in wide.parameters()} == {torch.float64, torch.complex128}
    torch.testing.assert_close(wide(x.double()).float(), y, atol=1e-5, rtol=1e-5)
    again = wide.to(torch.float32)
    assert torch.equal(again(x), y)


def test_autocast(model):
    x = torch.randn(20, 3)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(x)
    assert mixed.dtype == torch.bfloat16
    y = model(x)
    scale = y.abs().max().item()
    torch.testing.assert_close(mixed.float(), y, atol=0.05 * scale, rtol=0)


def test_from_a_file(model, tmp_path):
    surrogate = Surrogate(model, Normalizer.identity(2))
    save_surrogate(surrogate, tmp_path / "model.pt")
    x = torch.randn(20, 3)
    loaded = load_surrogate(tmp_path / "model.pt")
    assert torch.equal(loaded.model(x), model(x))


def test_a_step_of_training_moves_every_parameter(model):
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(parameter_groups(model, 1e-2), lr=1e-2)
    model(torch.randn(20, 3)).square().sum().backward()
    optimizer.step()
    for name, value in model.state_dict().items():
        assert not torch.equal(value, before[name]), name


def test_repr(model):
    assert str(model) == "FNO(3, 8, 2, grid=(5, 4), num_layers=2, modes=(4, 4))"
