import json
import pickle

import pytest
import torch

from torch_geometric_flare.datasets import AirfRANS
from torch_geometric_flare.fields import num_channels

NAMES = [f"airFoil2D_SST_{number}" for number in range(6)]
MANIFEST = {
    "full_train": NAMES[:4],
    "full_test": NAMES[4:],
    "scarce_train": NAMES[:1],
    "reynolds_train": NAMES[1:4],
    "reynolds_test": [NAMES[0], NAMES[5]],
    "aoa_train": NAMES[2:5],
    "aoa_test": NAMES[:2],
}


def sample(number):
    generator = torch.Generator().manual_seed(number)
    size = 4 + number
    return {
        "pos": torch.randn(size, 2, generator=generator),
        "x": torch.randn(size, 5, generator=generator),
        "y": torch.randn(size, 4, generator=generator),
        "surf": torch.rand(size, generator=generator) < 0.5,
    }


def write(root, samples=None):
    (root / "raw").mkdir(parents=True)
    samples = [sample(number) for number in range(6)] if samples is None else samples
    torch.save(samples, root / "raw" / "AirfRANS.pt")
    (root / "raw" / "manifest.json").write_text(json.dumps(MANIFEST))


def test_every_number(tmp_path):
    write(tmp_path)
    dataset = AirfRANS(tmp_path)
    for number, data in enumerate(dataset):
        raw = sample(number)
        assert torch.equal(data.pos, raw["pos"]) and torch.equal(data.y, raw["y"])
        assert torch.equal(data.x, torch.cat([raw["pos"], raw["x"]], dim=1))
        assert torch.equal(data.inlet_velocity, raw["x"][:, :2])
        assert torch.equal(data.wall_distance, raw["x"][:, 2:3])
        assert torch.equal(data.normal, raw["x"][:, 3:])
        assert torch.equal(data.surf, raw["surf"]) and data.surf.dtype == torch.bool
        assert data.x.size(1) == 2 + num_channels(dataset.features)
        assert data.y.size(1) == num_channels(dataset.fields)
    assert [str(field) for field in (*dataset.features, *dataset.fields)] == [
        "inlet_velocity (m/s)",
        "wall_distance (m)",
        "normal",
        "velocity (m/s)",
        "pressure (m²/s²)",
        "turbulent_viscosity (m²/s)",
    ]


def test_columns_are_those_of_pytorch_geometric():
    from torch_geometric.datasets import AirfRANS as Official

    said = " ".join((Official.__doc__ or "").split())
    features = ["the inlet velocity", "the distance to the airfoil", "the normals"]
    fields = ["the velocity", "the pressure", "the turbulent kinematic viscosity"]
    places = [said.index(what) for what in (*features, *fields)]
    assert places == sorted(places)


@pytest.mark.parametrize("task", ["full", "scarce", "reynolds", "aoa"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_tasks(tmp_path, task, split):
    write(tmp_path)
    dataset = AirfRANS(tmp_path, task, split)
    whole = f"{'full' if (task, split) == ('scarce', 'test') else task}_{split}"
    sizes = [4 + NAMES.index(name) for name in MANIFEST[whole]]
    assert (len(dataset), dataset.sizes) == (len(sizes), sizes)
    assert dataset[1:].sizes == sizes[1:]


def test_transform(tmp_path):
    write(tmp_path)
    dataset = AirfRANS(tmp_path, transform=lambda data: data.x.shape[1])
    assert dataset[0] == 7


def test_invalid_arguments(tmp_path):
    with pytest.raises(ValueError, match=r"task must be one of \['full'"):
        AirfRANS(tmp_path, "all")
    with pytest.raises(ValueError, match="split must be 'train' or 'test'"):
        AirfRANS(tmp_path, split="val")


@pytest.mark.parametrize(
    "change",
    [
        {"x": torch.zeros(5, 4)},
        {"y": torch.zeros(4, 4)},
        {"pos": torch.zeros(5, 3)},
        {"surf": torch.zeros(5, 1)},
        {"y": None},
    ],
)
def test_other_shapes(tmp_path, change):
    samples = [sample(number) for number in range(6)]
    samples[1] |= change
    write(tmp_path, samples)
    with pytest.raises(ValueError, match=r"AirfRANS\.pt': sample 1 has arrays of the"):
        AirfRANS(tmp_path)


@pytest.mark.parametrize("key", ["pos", "x", "y"])
def test_not_finite(tmp_path, key):
    samples = [sample(number) for number in range(6)]
    samples[1][key][2, 1] = torch.nan
    write(tmp_path, samples)
    dataset = AirfRANS(tmp_path)
    assert dataset[0].num_nodes == 4
    with pytest.raises(ValueError, match=f"sample 1: {key} has values that are not"):
        dataset[1]


class Code:
    """Fails the test when it is unpickled by anything that may run code."""

    def __reduce__(self):
        # PyTorch Geometric gives way to functions that torch does not block.
        return _run, ()


def _run():
    pytest.fail("unpickled")


def test_damaged_or_with_code(tmp_path):
    write(tmp_path / "code", [Code()])
    with pytest.raises(ValueError, match=r"AirfRANS\.pt' is damaged, or holds more"):
        AirfRANS(tmp_path / "code")
    write(tmp_path / "cut")
    path = tmp_path / "cut" / "raw" / "AirfRANS.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"AirfRANS\.pt' is damaged, or holds more"):
        AirfRANS(tmp_path / "cut")


def test_code_below_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write(tmp_path / "data", [Code()])
    with pytest.raises(ValueError, match=r"AirfRANS\.pt' is damaged, or holds more"):
        AirfRANS("~/data")


def test_code_in_what_was_fetched(tmp_path, monkeypatch):
    def fetch(self):
        write(tmp_path / "fetched", [Code()])
        (tmp_path / "fetched" / "raw").replace(self.raw_dir)

    monkeypatch.setattr("torch_geometric.datasets.AirfRANS.download", fetch)
    with pytest.raises(ValueError, match=r"AirfRANS\.pt' is damaged, or holds more"):
        AirfRANS(tmp_path)


@pytest.mark.parametrize("name", ["full_train.pt", "pre_transform.pt"])
def test_code_in_what_was_processed(tmp_path, name):
    write(tmp_path)
    AirfRANS(tmp_path)
    torch.save((Code(), None), tmp_path / "processed" / name)
    with pytest.raises(ValueError, match=f"{name}' is damaged, or holds more than"):
        AirfRANS(tmp_path)


def test_manifest_of_another_release(tmp_path):
    write(tmp_path / "fewer", [sample(number) for number in range(3)])
    with pytest.raises(ValueError, match="lists 6 samples, .* holds 3"):
        AirfRANS(tmp_path / "fewer")
    write(tmp_path / "other")
    (tmp_path / "other" / "raw" / "manifest.json").write_text("{}")
    with pytest.raises(
        ValueError, match="manifest.json' must list the samples of full"
    ):
        AirfRANS(tmp_path / "other")


def test_pickled(tmp_path):
    write(tmp_path)
    dataset = pickle.loads(pickle.dumps(AirfRANS(tmp_path)))
    assert torch.equal(dataset[1].pos, sample(1)["pos"])


def uniform(number):
    made = sample(number)
    made["x"][:, :2] = torch.tensor([40.0 + number, 2.0])
    return made


def test_inlet_as_a_condition(tmp_path):
    write(tmp_path, [uniform(number) for number in range(6)])
    dataset = AirfRANS(tmp_path, inlet="condition")
    plain = AirfRANS(tmp_path)
    assert [str(field) for field in dataset.conditions] == ["inlet_velocity (m/s)"]
    assert dataset.features == AirfRANS.features[1:]
    assert plain.conditions == () and plain.features == AirfRANS.features
    for number, (data, other) in enumerate(zip(dataset, plain, strict=True)):
        assert data.u.tolist() == [[40.0 + number, 2.0]]
        assert "u" not in other and "inlet_velocity" not in data
        rest = torch.cat([other.x[:, :2], other.x[:, 4:]], dim=1)
        assert torch.equal(data.x, rest) and torch.equal(data.y, other.y)


def test_inlet_that_is_not_uniform(tmp_path):
    write(tmp_path)
    with pytest.raises(ValueError, match=r"sample 0: inlet_velocity.*m/s.*'feature'"):
        AirfRANS(tmp_path, inlet="condition")[0]
    with pytest.raises(ValueError, match="inlet.*'constant'"):
        AirfRANS(tmp_path, inlet="constant")


@pytest.mark.parametrize("inlet", ["condition", "feature"])
def test_the_surface_as_source(tmp_path, inlet):
    samples = [uniform(number) for number in range(6)]
    for made in samples:
        made["surf"][:2] = torch.tensor([True, False])
    write(tmp_path, samples)
    dataset = AirfRANS(tmp_path, inlet=inlet, source="surface")
    assert [field.name for field in dataset.fields] == ["pressure"]
    assert dataset.query_fields == AirfRANS.fields
    assert [field.name for field in dataset.query_features] == ["wall_distance"]
    assert dataset.features == (AirfRANS.features[2],) or inlet == "feature"
    assert dataset.sizes == [int(made["surf"].sum()) for made in samples[:4]]
    for data, raw in zip(dataset, samples, strict=False):
        surf = raw["surf"]
        assert torch.equal(data.pos, raw["pos"][surf])
        assert torch.equal(data.y, raw["y"][surf, 2:3])
        columns = raw["x"][surf][:, [3, 4] if inlet == "condition" else [0, 1, 3, 4]]
        assert torch.equal(data.x, torch.cat([data.pos, columns], dim=1))
        assert ("u" in data) == (inlet == "condition")
        assert torch.equal(data.query_pos, raw["pos"])
        assert torch.equal(data.query_y, raw["y"])
        assert torch.equal(data.query_wall_distance, raw["x"][:, 2:3])
        assert torch.equal(data.query_surf, surf)
    assert AirfRANS(tmp_path).fields == AirfRANS.fields


def test_a_sample_without_a_surface(tmp_path):
    samples = [uniform(number) for number in range(6)]
    samples[1]["surf"][:] = False
    samples[0]["surf"][:] = True
    write(tmp_path, samples)
    dataset = AirfRANS(tmp_path, source="surface")
    assert len(dataset[0].pos) == 4
    with pytest.raises(ValueError, match="sample 1 .*surf"):
        dataset[1]
    with pytest.raises(ValueError, match="source.*'wall'"):
        AirfRANS(tmp_path, source="wall")
