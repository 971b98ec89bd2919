import math
import pickle
import random
import subprocess
import sys
import textwrap
import warnings

import pytest
import torch
from torch import nn
from torch_geometric.data import Data

from torch_geometric_flare.fields import Field
from torch_geometric_flare.nn import FLARE
from torch_geometric_flare.surrogates import (
    Surrogate,
    describe_model,
    load_surrogate,
    save_surrogate,
)
from torch_geometric_flare.transforms import Normalizer


class Pointwise(nn.Module):
    """A model of our own, unknown to the package."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, x):
        return self.layer(x)


def small_flare(in_channels=3, out_channels=1):
    torch.manual_seed(0)
    return FLARE(
        in_channels, 16, out_channels, num_layers=2, heads=2, num_latents=4, kv_layers=1
    )


def make_surrogate(model=None, **arguments):
    return Surrogate(
        small_flare() if model is None else model,
        Normalizer([20.0], [7.0]),
        Normalizer.from_bounds([0.0] * 3, [4.0] * 3),
        "simulated cars",
        **arguments,
    )


@pytest.fixture
def saved(tmp_path):
    """Saves a surrogate of a model; gives the file."""

    def save(model=None):
        path = tmp_path / "car.ckpt"
        save_surrogate(make_surrogate(model), path)
        return path

    return save


def assert_same_state(first, second):
    first, second = first.state_dict(), second.state_dict()
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert value.dtype == second[name].dtype, name
        assert torch.equal(value, second[name]), name


def test_all_of_a_surrogate_is_saved(tmp_path):
    surrogate = Surrogate(
        small_flare(4, 4),
        Normalizer([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]),
        Normalizer.from_bounds([0.0] * 3, [4.0] * 3),
        "simulated cars",
        fields=(Field("pressure", 1, "m²/s²"), Field("wall_shear_stress", 3, "m²/s²")),
        features=(Field("roughness", 1, "m"),),
        input_normalizer=Normalizer([0.5] * 4, [0.3] * 4),
    )
    save_surrogate(surrogate, tmp_path / "car.ckpt")
    loaded = load_surrogate(str(tmp_path / "car.ckpt"))
    assert_same_state(loaded, surrogate)
    assert not loaded.training
    assert loaded.fields == surrogate.fields
    assert loaded.features == surrogate.features
    assert loaded.training_data == "simulated cars"
    sample = Data(pos=torch.rand(9, 3), roughness=torch.rand(9, 1))
    assert torch.equal(loaded.predict(sample), surrogate.predict(sample))
    assert [path.name for path in tmp_path.iterdir()] == ["car.ckpt"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_keep_their_precision(tmp_path, dtype):
    surrogate = make_surrogate().to(dtype)
    save_surrogate(surrogate, tmp_path / "car.ckpt")
    assert_same_state(load_surrogate(tmp_path / "car.ckpt"), surrogate)


def test_a_file_is_replaced_in_one_step(saved, monkeypatch):
    path = saved()
    content = path.read_bytes()

    def stop(content, path):
        path.write(b"half of it")
        raise InterruptedError

    monkeypatch.setattr(torch, "save", stop)
    with pytest.raises(InterruptedError):
        saved()
    assert path.read_bytes() == content


def test_where_nothing_can_be_saved(tmp_path):
    surrogate = make_surrogate()
    with pytest.raises(FileNotFoundError, match=r"car\.ckpt' lies in a folder that"):
        save_surrogate(surrogate, tmp_path / "missing" / "car.ckpt")
    with pytest.raises(ValueError, match="is a folder: name a file in it"):
        save_surrogate(surrogate, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_names_has_one_field(saved):
    """As trainings wrote before fields had names."""
    path = saved()
    rewrite(path, lambda c: [c["surrogate"].pop(n) for n in ("fields", "features")])
    surrogate = load_surrogate(path)
    assert surrogate.fields == (Field("field", 1),)
    assert surrogate.features == ()
    assert_same_state(surrogate, make_surrogate())


def test_a_model_is_described_by_plain_values():
    described = describe_model(small_flare())
    assert described["model"] == "FLARE"
    assert described["arguments"]["num_latents"] == 4
    assert described["arguments"]["act"] == "gelu"
    assert describe_model(Pointwise()) == {"model": "Pointwise", "arguments": None}


# What a laptop without the extra `train` does.
WITHOUT_LIGHTNING = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("lightning", "pytorch_lightning", "torchmetrics"):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocked())
import torch
from torch_geometric_flare.interop import from_reference
from torch_geometric_flare.recipes import FLARE_DRIVAERML_QUICK
from torch_geometric_flare.surrogates import Surrogate, load_surrogate, save_surrogate
from torch_geometric_flare.transforms import Normalizer
torch.manual_seed(0)
model = FLARE_DRIVAERML_QUICK.build(in_channels=3, out_channels=1)
bounds = Normalizer.from_bounds([0.0] * 3, [1.0] * 3)
surrogate = Surrogate(model, Normalizer([2.0], [3.0]), bounds)
save_surrogate(surrogate, "car.ckpt")
pos = torch.rand(7, 3)
assert torch.equal(load_surrogate("car.ckpt").predict(pos), surrogate.predict(pos))
try:
    import torch_geometric_flare.training
except ImportError as error:
    print(error)
"""


@pytest.mark.slow
def test_lightning_is_not_needed(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WITHOUT_LIGHTNING)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "is blocked" in result.stdout


def rewrite(path, change):
    checkpoint = torch.load(path, weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, path)


def test_weights_that_do_not_fit_are_refused(saved):
    path = saved()
    with pytest.raises(ValueError, match="do not fit Pointwise"):
        load_surrogate(path, Pointwise())
    rewrite(path, lambda c: c["state_dict"].update(extra=torch.ones(1)))
    with pytest.raises(ValueError, match=r"Unexpected key.*extra"):
        load_surrogate(path)
    rewrite(path, lambda c: c["state_dict"].pop("extra"))
    rewrite(path, lambda c: c["state_dict"].pop("surrogate.model.norm.weight"))
    with pytest.raises(ValueError, match=r"Missing key.*model.norm.weight"):
        load_surrogate(path)


@pytest.mark.parametrize("name", ["nn", "PointBatch", "__all__", "flare", "os.system"])
def test_only_exported_models_are_built(saved, name):
    path = saved()
    rewrite(path, lambda c: c["surrogate"].update(model=name))
    with pytest.raises(ValueError, match="cannot be rebuilt from the file alone"):
        load_surrogate(path)


def test_unknown_arguments_are_refused(saved):
    path = saved()
    rewrite(path, lambda c: c["surrogate"]["arguments"].update(depth=3))
    with pytest.raises(ValueError, match=r"arguments that FLARE does not take.*depth"):
        load_surrogate(path)


def test_arguments_that_are_no_plain_values_need_the_model(saved):
    model = small_flare()
    model.act = torch.tanh
    path = saved(model)
    with pytest.raises(ValueError, match="pass it as model="):
        load_surrogate(path)
    assert load_surrogate(path, model).model is model


class Malicious:
    def __reduce__(self):
        return (math.factorial, (3,))


def test_files_that_are_no_checkpoint_are_refused(tmp_path):
    path = tmp_path / "file.ckpt"
    with pytest.raises(FileNotFoundError, match=r"file\.ckpt.*is not a file"):
        load_surrogate(path)
    torch.save({"surrogate": Malicious(), "state_dict": {}}, path)
    with pytest.raises(ValueError, match="not a checkpoint") as caught:
        load_surrogate(path)
    assert isinstance(caught.value.__cause__, pickle.UnpicklingError)
    for content in (
        {"state_dict": {}},
        {"state_dict": {}, "surrogate": {}},
        {"state_dict": 3, "surrogate": {"model": "FLARE", "arguments": None}},
        {"state_dict": {}, "surrogate": {"model": "FLARE", "arguments": [3]}},
        torch.ones(3),
    ):
        torch.save(content, path)
        with pytest.raises(ValueError, match="not a checkpoint"):
            load_surrogate(path)
    for content in (b"", b"nothing of the kind", path.read_bytes()[:200]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a checkpoint"):
            load_surrogate(path)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_named(saved, kept):
    path = saved()
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=r"car\.ckpt.*or damaged"):
        load_surrogate(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["surrogate"]["arguments"].update(in_channels="three"),
        lambda c: c["surrogate"]["arguments"].update(heads=3),
        lambda c: c["surrogate"]["arguments"].clear(),
        lambda c: c["surrogate"]["arguments"].update({7: 7}),
        lambda c: c["state_dict"].update({7: torch.ones(1)}),
        lambda c: c["state_dict"].update({"surrogate.model.norm.weight": 3}),
        lambda c: c["state_dict"].update({"surrogate.target_normalizer.shift": 3}),
        lambda c: c["state_dict"].pop("surrogate.target_normalizer.scale"),
        lambda c: c["state_dict"].update(
            {"surrogate.target_normalizer.scale": -torch.ones(1)}
        ),
    ],
)
def test_malformed_contents_are_refused_with_the_file(saved, change):
    path = saved()
    rewrite(path, change)
    with pytest.raises(ValueError, match=r"car\.ckpt"):
        load_surrogate(path)


def test_a_device_that_is_not_there_is_no_bad_file(saved):
    path = saved()
    missing = "mps" if torch.cuda.is_available() else "cuda"
    for device in (missing, "abacus"):
        with pytest.raises(ValueError, match=f"device='{device}' cannot be used"):
            load_surrogate(path, device=device)


def test_any_flipped_bit_is_found(tmp_path):
    """In the data of the archive, and in the headers that say where they are."""
    path = tmp_path / "car.ckpt"
    model = FLARE(2, 4, 1, num_layers=1, heads=1, num_latents=2, kv_layers=0)
    surrogate = Surrogate(model, Normalizer([20.0], [7.0]), training_data="cars")
    save_surrogate(surrogate, path)
    content = path.read_bytes()
    directory = content.index(b"PK\x01\x02")
    draw = random.Random(0)
    places = [draw.randrange(8 * directory) for _ in range(200)]
    places += [draw.randrange(8 * directory, 8 * len(content)) for _ in range(200)]
    outcomes = set()
    for place in places:
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                loaded = load_surrogate(path)
        except ValueError as error:
            assert "car.ckpt" in str(error) and "damaged" in str(error), place
            outcomes.add("refused")
        else:  # The bit is in padding, or in a date.
            assert_same_state(loaded, surrogate)
            assert loaded.training_data == "cars"
            outcomes.add("same")
    assert outcomes == {"refused", "same"}


def test_a_flipped_bit_of_any_tensor_is_found(saved):
    path = saved()
    content = bytearray(path.read_bytes())
    tensors = load_surrogate(path).state_dict().items()
    drawn = {name: value for name, value in tensors if value.any()}
    assert len(drawn) > 10
    for name, value in drawn.items():
        first = content.index(value.numpy().tobytes())
        content[first] ^= 1
        path.write_bytes(content)
        with pytest.raises(ValueError, match="damaged") as caught:
            load_surrogate(path)
        assert "checksum" in str(caught.value.__cause__), name
        content[first] ^= 1


def test_a_file_holds_the_same_bytes_wherever_it_lies(saved, tmp_path):
    path = saved()
    save_surrogate(load_surrogate(path), tmp_path / "other.ckpt")
    assert (tmp_path / "other.ckpt").read_bytes() == path.read_bytes()


def test_an_array_marked_as_a_folder_is_refused(saved):
    """torch would leave its memory as it is found."""
    path = saved()
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02", 0, content.rindex(b"archive/data/3"))
    content[entry + 38] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged") as caught:
        load_surrogate(path)
    assert "marked as a folder" in str(caught.value.__cause__)


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a file"):
        load_surrogate(tmp_path)
