import io
import json

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_flare.datasets.records import (
    describe,
    fingerprint,
    read_json,
    read_verified,
    serialize,
    verify,
    write_atomic,
    write_json,
    write_record,
)

# The standard's own example, FIPS 180-2.
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_record(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"abc")
    origin = {"repo_id": "owner/name", "revision": None, "commit": "f" * 40}
    assert write_record(path, **origin) == ABC
    record = json.loads((tmp_path / "a.bin.json").read_text())
    assert record == {"file": "a.bin", "size": 3, "sha256": ABC} | origin
    verify(path)
    path.write_bytes(b"abd")
    with pytest.raises(ValueError, match=f"recorded SHA-256 {ABC}"):
        verify(path)
    path.write_bytes(b"abcd")
    with pytest.raises(ValueError, match="found 4 bytes, recorded 3 bytes"):
        verify(path)


def test_read_verified(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"abc")
    expected = fingerprint(b"abc")
    assert expected == {"size": 3, "sha256": ABC}
    assert read_verified(path, expected) == b"abc"
    for other in ({}, {"sha256": ABC}, {"size": 3}, expected | {"size": 4}):
        with pytest.raises(ValueError, match="has changed"):
            read_verified(path, other)


def test_description_holds_no_address():
    class Transform:
        __module__, __qualname__ = "m", "Transform"

    assert describe(Transform()) == "<m.Transform object>"
    assert describe([1, "at 0"]) == "[1, 'at 0']"


def test_interrupted_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})

    def fail(source, target):
        raise OSError("interrupted")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="interrupted"):
        write_atomic(path, b"{}")
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


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
