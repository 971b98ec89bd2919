import io
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from torch_geometric.data import Data

from torch_geometric_flare.datasets import DrivAerML, SimulatedDataset
from torch_geometric_flare.datasets.simulated_files import num_points
from torch_geometric_flare.fields import Field


@dataclass(frozen=True)
class Unequal:
    """Bodies of 3 to 9 points."""

    name: ClassVar[str] = "simulated_unequal"
    fields: ClassVar = (Field("height"),)
    features: ClassVar = ()
    coordinate_bounds: ClassVar = ((0.0,) * 3, (1.0,) * 3)

    def sample(self, rng):
        pos = rng.random((rng.integers(3, 10), 3)).astype(np.float32)
        return {"pos": pos, "height": pos[:, :1]}


def halve(data):
    half = data.num_nodes // 2
    return Data(x=data.x[:half], pos=data.pos[:half], y=data.y[:half])


@pytest.fixture
def unread(monkeypatch):
    """No array is read any more."""

    def refuse(*_, **__):
        raise AssertionError("an array was read")

    def forbid():
        monkeypatch.setattr(np, "load", refuse)
        monkeypatch.setattr(np.lib.format, "read_array", refuse)
        monkeypatch.setattr(SimulatedDataset, "get", refuse)
        monkeypatch.setattr(DrivAerML, "get", refuse)

    return forbid


@pytest.mark.parametrize("pre_transform", [None, halve])
def test_simulated(tmp_path, unread, pre_transform):
    dataset = SimulatedDataset(
        tmp_path, Unequal(), 6, num_workers=0, pre_transform=pre_transform
    )
    expected = [data.num_nodes for data in dataset]
    assert len(set(expected)) > 1
    unread()
    assert dataset.sizes == expected
    assert dataset[2:5].sizes == expected[2:5]


@pytest.mark.parametrize("pre_transform", [None, halve])
def test_drivaerml(tmp_path, unread, pre_transform):
    folder = tmp_path / "raw" / "drivaerml_surface_presampled_40k" / "train"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for run, size in ((10, 40), (2, 6), (101, 8)):
        centers = rng.random((size, 3), dtype=np.float32)
        fields = rng.random((size, 4), dtype=np.float32)
        np.savez(
            folder / f"run_{run}.npz",
            surface_fields=fields,
            surface_mesh_centers=centers,
        )
    dataset = DrivAerML(tmp_path, pre_transform=pre_transform)
    unread()
    assert dataset.sizes == ([6, 40, 8] if pre_transform is None else [3, 20, 4])
    assert dataset[[2, 0]].sizes == ([8, 6] if pre_transform is None else [4, 3])


def test_a_header_of_either_version(tmp_path):
    import zipfile

    for version in ((1, 0), (2, 0)):
        content = io.BytesIO()
        np.lib.format.write_array(content, np.zeros((7, 3)), version)
        path = tmp_path / f"{version[0]}.npz"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("pos.npy", content.getvalue())
        assert num_points(path) == 7


def test_files_that_do_not_tell(tmp_path):
    with pytest.raises(FileNotFoundError):
        num_points(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", y=np.zeros(3))
    np.savez(tmp_path / "scalar.npz", pos=np.float32(1.0))
    (tmp_path / "damaged.npz").write_bytes(b"PK no archive")
    (tmp_path / "damaged.pt").write_bytes(b"no tensors")
    for name in ("other.npz", "scalar.npz", "damaged.npz", "damaged.pt"):
        with pytest.raises(ValueError, match=f"{name}' does not tell"):
            num_points(tmp_path / name)
