import io
import pickle
import zipfile

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_flare.datasets.stored import (
    deserialize,
    num_stored_points,
    serialize,
)


def test_serialize(tmp_path):
    points = torch.arange(3000.0).view(1000, 3)
    data = Data(x=points[:2], num_nodes=2, run=7, name="car", sizes=[1, 2.5, None])
    content = serialize(data, tmp_path)
    fields = torch.load(io.BytesIO(content), weights_only=True)
    assert torch.equal(fields.pop("x"), torch.tensor([[0.0, 1, 2], [3, 4, 5]]))
    assert fields == {"num_nodes": 2, "run": 7, "name": "car", "sizes": [1, 2.5, None]}
    assert len(content) < 3000 * 4

    with pytest.raises(ValueError, match="must return a Data, got dict for"):
        serialize(fields, tmp_path)
    with pytest.raises(ValueError, match=r"cannot be stored: \['x'\]"):
        serialize(Data(x=np.ones((2, 3))), tmp_path)


def test_what_is_stored_comes_back(tmp_path):
    data = Data(
        x=torch.rand(3, 2), grid=(1, 3), note="a", edge_index=torch.eye(2).long()
    )
    again = deserialize(serialize(data, tmp_path), tmp_path)
    assert torch.equal(again.x, data.x)
    assert torch.equal(again.edge_index, data.edge_index)
    assert (again.grid, again.note) == ((1, 3), "a")


def test_points_are_counted_from_the_file(tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(serialize(Data(x=torch.rand(7, 2)), tmp_path))
    assert num_stored_points(path) == 7


def rewritten(content, change, compression=zipfile.ZIP_STORED):
    """Write the archive again, with other content of its members."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(buffer, "w", compression) as new,
    ):
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return buffer.getvalue()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["x", "pos", "y"])
def test_values_that_are_not_finite(tmp_path, name, value):
    data = Data(x=torch.ones(2, 1), **{"other": torch.tensor([value])})
    assert deserialize(serialize(data, tmp_path), tmp_path).other.shape == (1,)
    data[name] = torch.tensor([[1.0], [value]])
    with pytest.raises(ValueError, match=rf"a\.pt': {name} has values .*not finite"):
        deserialize(serialize(data, tmp_path), tmp_path / "a.pt")


def test_damaged_content(tmp_path):
    content = serialize(Data(x=torch.arange(100.0).view(50, 2)), tmp_path)
    bomb = rewritten(content, lambda name, old: old * 1000, zipfile.ZIP_DEFLATED)
    # A storage of a hundred floats, of which eight bytes are there.
    short = rewritten(content, lambda name, old: old[:8] if "/data/" in name else old)
    flipped = bytearray(content)
    flipped[content.index(np.float32(77).tobytes())] ^= 1
    folder = bytearray(content)  # torch would leave the memory of this entry as it is
    entry = content.rindex(b"PK\x01\x02", 0, content.rindex(b"archive/data/0"))
    folder[entry + 38] ^= 0x10
    buffer = io.BytesIO()
    torch.save([1, 2], buffer)
    damaged = {
        b"": "not a zip file",
        b"no archive": "not a zip file",
        pickle.dumps({"x": 1}): "not a zip file",
        content[:-40]: "not a zip file",
        bomb: "claims .* bytes in a file of",
        short: "",
        bytes(flipped): "checksum",
        bytes(folder): "marked as a folder",
        buffer.getvalue(): "it holds a list, not a dictionary",
    }
    for bad, message in damaged.items():
        with pytest.raises(ValueError, match=rf"a\.pt' is damaged: .*\(.*{message}"):
            deserialize(bad, tmp_path / "a.pt")
