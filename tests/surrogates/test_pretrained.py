import json
import shutil

import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_flare.fields import Field
from torch_geometric_flare.nn import FLARE, Transolver
from torch_geometric_flare.surrogates import Surrogate
from torch_geometric_flare.transforms import Normalizer

pytest.importorskip("safetensors", reason="needs the extra hub")

PRESSURE = Field("pressure", 1, "m²/s²")
SHEAR = Field("wall_shear_stress", 3, "Pa")


@pytest.fixture
def surrogate():
    torch.manual_seed(0)
    return Surrogate(
        FLARE(4, 8, 4, num_layers=1, heads=2, num_latents=3),
        Normalizer([-200.0, 0.1, 0.2, 0.3], [270.0, 3.0, 4.0, 5.0]),
        Normalizer.from_bounds([-1.0, -2.0, 0.0], [4.0, 2.0, 1.5]),
        "simulated cars",
        fields=(PRESSURE, SHEAR),
        features=(Field("speed", 1, "m/s"),),
    )


@pytest.fixture
def sample():
    torch.manual_seed(1)
    return Data(pos=torch.rand(50, 3), speed=torch.full((50, 1), 39.0))


@pytest.fixture
def folder(surrogate, tmp_path):
    surrogate.save_pretrained(tmp_path / "car", {"relative_l2": 0.1234567})
    return tmp_path / "car"


def test_the_same_bits_come_back(surrogate, sample, folder):
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["README.md", "config.json", "model.safetensors"]
    loaded = Surrogate.from_pretrained(folder)
    assert torch.equal(loaded.predict(sample), surrogate.predict(sample))
    assert (loaded.fields, loaded.features) == (surrogate.fields, surrogate.features)
    assert loaded.training_data == "simulated cars"
    assert not loaded.training


def test_double_precision_and_arguments_that_are_tuples(tmp_path):
    network = Transolver(2, 8, 1, num_layers=1, heads=2, num_slices=3, grid=(4, 5))
    surrogate = Surrogate(network.double(), Normalizer([0.0], [1.0]))
    surrogate.save_pretrained(tmp_path)
    loaded = Surrogate.from_pretrained(str(tmp_path))
    assert loaded.model.grid == (4, 5)
    sample = Data(x=torch.rand(20, 2, dtype=torch.float64))
    assert torch.equal(loaded.predict(sample), surrogate.predict(sample))


def test_weights_that_share_memory(tmp_path):
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = self.second = torch.nn.Linear(2, 2)

        def forward(self, x):
            return self.second(self.first(x))

    surrogate = Surrogate(Tied(), Normalizer([0.0] * 2, [1.0] * 2))
    surrogate.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"config\.json.*'Tied'.*pass it as model="):
        Surrogate.from_pretrained(tmp_path)
    loaded = Surrogate.from_pretrained(tmp_path, Tied())
    sample = Data(x=torch.rand(5, 2))
    assert torch.equal(loaded.predict(sample), surrogate.predict(sample))


def test_the_card_states_data_box_units_and_metric(folder):
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: torch_geometric_flare\n")
    assert "Trained on simulated cars. These are simulated, not the official" in card
    for row in (
        "| pressure | 1 | m²/s² |",
        "| wall_shear_stress | 3 | Pa |",
        "| speed | 1 | m/s |",
        "| x | -1 | 4 |",
        "| z | 0 | 1.5 |",
        "| `relative_l2` | 0.1235 |",
    ):
        assert row in card


def test_a_card_says_what_is_not_known(tmp_path):
    Surrogate(FLARE(3, 8, 1, num_layers=1), Normalizer([0.0], [1.0])).save_pretrained(
        tmp_path
    )
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "What it was trained on is not stated" in card
    assert "The box of the training data is not stated" in card
    assert "None was given when this surrogate was saved" in card
    official = Surrogate(
        FLARE(3, 8, 1, num_layers=1), Normalizer([0.0], [1.0]), None, "official cars"
    )
    official.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "Trained on official cars.\n" in card and "simulated" not in card


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(ValueError, match=rf"car/{name}' is missing"):
        Surrogate.from_pretrained(folder)


def test_damaged_weights(folder):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[-3] ^= 1
    for damaged in (b"", content[:-1], bytes(flipped)):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"model\.safetensors' is damaged"):
            Surrogate.from_pretrained(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[" * 100_000,
        b"\xff\xfe",
        b"[1]",
        b'{"model_type": "bert", "hidden_size": 768}',
        b'{"library": "torch_geometric_flare", "format": 1}',
        b" " * 2**20 + b"{}",
    ],
)
def test_a_foreign_or_damaged_configuration(folder, content):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"car/config\.json' is of no surrogate"):
        Surrogate.from_pretrained(folder)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("model",), "load"),
        (("arguments", "hidden_channels"), 16),
        (("arguments", "heads"), None),
        (("arguments", "unheard"), 3),
        (("fields",), [{"name": "pressure", "channels": 9, "unit": "Pa"}]),
        (("fields",), 5),
        (("features",), ["speed"]),
    ],
)
def test_a_configuration_that_does_not_fit(folder, keys, value):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    part = config["surrogate"]
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"car/config\.json"):
        Surrogate.from_pretrained(folder)


def test_another_format(folder):
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(ValueError, match=r"config\.json' has format 2, expected 1"):
        Surrogate.from_pretrained(folder)


def test_arguments_that_make_no_sense(surrogate, folder, tmp_path):
    with pytest.raises(ValueError, match=r"metrics\['error'\] is nan"):
        surrogate.save_pretrained(tmp_path / "new", {"error": float("nan")})
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match="is a file: name a folder"):
        surrogate.save_pretrained(folder / "config.json")
    with pytest.raises(ValueError, match="is a file: name the folder"):
        Surrogate.from_pretrained(folder / "config.json")
    with pytest.raises(ValueError, match="device='abacus' cannot be used"):
        Surrogate.from_pretrained(folder, device="abacus")


def test_a_name_that_is_neither_a_folder_nor_fetched(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    pytest.importorskip("huggingface_hub")
    with pytest.raises(ConnectionError, match="'runs/typo' is not a folder here"):
        Surrogate.from_pretrained("runs/typo")
    with pytest.raises(FileNotFoundError, match="is not a folder here"):
        Surrogate.from_pretrained("/no/such/folder")


def test_the_way_through_a_hub(surrogate, sample, tmp_path, monkeypatch):
    calls = []

    class Api:
        def __init__(self, token):
            calls.append(token)

        def create_repo(self, repo_id, *, private, exist_ok):
            calls.append((repo_id, private, exist_ok))

        def upload_folder(self, *, repo_id, folder_path, revision, commit_message):
            shutil.copytree(folder_path, tmp_path / repo_id)
            return type("Commit", (), {"commit_url": f"hub/{repo_id}/commit/1"})

    def download(repo_id, name, *, revision, token):
        calls.append((name, revision, token))
        return str(tmp_path / repo_id / name)

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    where = surrogate.push_to_hub("me/car", {"relative_l2": 0.1}, token="t")
    assert where == "hub/me/car/commit/1"
    assert calls == ["t", ("me/car", None, True)]
    loaded = Surrogate.from_pretrained("me/car", revision="v1", token="t")
    assert calls[2:] == [("config.json", "v1", "t"), ("model.safetensors", "v1", "t")]
    assert torch.equal(loaded.predict(sample), surrogate.predict(sample))
