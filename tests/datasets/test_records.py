import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from torch_geometric_flare._arguments import describe
from torch_geometric_flare._files import write_atomic
from torch_geometric_flare.datasets.records import (
    fingerprint,
    fingerprint_arrays,
    read_json,
    read_verified,
    verify,
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


def test_fingerprint_of_slices():
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.ones(2, np.float32)}
    expected = fingerprint_arrays(arrays)
    assert expected["size"] == 48 + 8
    same = {"b": arrays["b"], "a": np.asfortranarray(arrays["a"])}
    assert fingerprint_arrays(same) == expected
    others = [
        {"a": arrays["a"]},
        {"c": arrays["a"], "b": arrays["b"]},
        {"a": arrays["a"].reshape(3, 2), "b": arrays["b"]},
        {"a": arrays["a"], "b": arrays["b"].view(np.int32)},
        {"a": arrays["a"] + np.eye(2, 3) * 1e-15, "b": arrays["b"]},
    ]
    assert all(fingerprint_arrays(other) != expected for other in others)


@pytest.mark.parametrize("content", ["{", "[1]", "[" * 10**5, '{"a":' * 10**5, "\xff"])
def test_json_that_is_no_manifest(tmp_path, content):
    path = tmp_path / "manifest.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=r"manifest\.json' is not .*delete it"):
        read_json(path)


def test_a_folder_in_place_of_a_manifest(tmp_path):
    with pytest.raises(ValueError, match="is a folder, not a JSON file"):
        read_json(tmp_path)
    with pytest.raises(FileNotFoundError, match="none"):
        read_json(tmp_path / "none")


def test_writers_of_one_process_number(tmp_path):
    path = tmp_path / "a.bin"
    contents = [bytes([value]) * 2**20 for value in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: write_atomic(path, content), contents))
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]
