import io
import struct
import zipfile

import numpy as np
import pytest
import torch

from torch_geometric_flare.datasets.arrays import (
    array_length,
    open_npy,
    read_npz,
    to_tensor,
)


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def archive(compression=zipfile.ZIP_STORED, **members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def header(shape, dtype="<f8"):
    buffer = io.BytesIO()
    entries = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, entries)
    return buffer.getvalue()


def test_arrays_come_back(tmp_path):
    arrays = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": np.asfortranarray(np.arange(6, dtype=np.int32).reshape(3, 2)),
        "c": np.float32(1.5),
        "empty": np.zeros((0, 3)),
    }
    found = read_npz(npz(**arrays), tmp_path)
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    compressed = io.BytesIO()
    np.savez_compressed(compressed, **arrays)
    np.testing.assert_array_equal(
        read_npz(compressed.getvalue(), tmp_path)["a"], arrays["a"]
    )


def test_other_arrays_are_left_alone(tmp_path):
    content = npz(a=np.ones(3), metadata=np.array([print], dtype=object))
    assert list(read_npz(content, tmp_path, ["a"])) == ["a"]
    with pytest.raises(ValueError, match="object, not real numbers"):
        read_npz(content, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a zip file"),
        (b"text", "not a zip file"),
        (npy(np.ones(3)), "not a zip file"),
        (npz(b=np.ones(3)), r"it lacks a, and holds \['b'\]"),
        (npz(a=np.array(["text"])), "its type is <U4, not real numbers"),
        (npz(a=np.array([{}], dtype=object)), "its type is object, not real"),
        (npz(a=np.ones(3, complex)), "its type is complex128, not real"),
        (npz(a=np.ones(3)).replace(b"(3,)", b"(9,)"), "claims the shape|CRC"),
        (
            archive(a=header((10**12,)) + bytes(24)),
            r"claims the shape \(1000000000000,",
        ),
        (archive(a=header((-1, -3)) + bytes(24)), r"its shape is \(-1, -3\)"),
        (archive(a=header((2,)) + bytes(24)), "16 bytes, and holds 24"),
        (archive(a=b"no header"), "magic"),
        (archive(a=b"\x93NUMPY\x03\x00" + bytes(30)), "its version"),
    ],
)
def test_what_is_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"a\.npz' is not a \.npz file.*({message})"):
        read_npz(content, tmp_path / "a.npz", ["a"])


def test_a_zip_bomb_takes_no_memory(tmp_path, monkeypatch):
    zeros = header((2**24,), "|u1") + bytes(2**24)
    content = archive(zipfile.ZIP_DEFLATED, a=zeros)
    assert len(content) < 2**24 / 500

    def refuse(*_, **__):
        raise AssertionError("the bomb was unpacked")

    monkeypatch.setattr(zipfile.ZipFile, "read", refuse)
    monkeypatch.setattr(zipfile.ZipFile, "open", refuse)
    with pytest.raises(ValueError, match=r"claims \d+ bytes of arrays in a file of"):
        read_npz(content, tmp_path)


def test_a_directory_that_lies(tmp_path):
    # The archive's directory claims a member of 4 GB.
    content = bytearray(npz(a=np.ones(3)))
    entry = content.rindex(b"PK\x01\x02")
    struct.pack_into("<I", content, entry + 24, 2**32 - 2)
    with pytest.raises(ValueError, match=r"claims \d+ bytes of arrays in a file of"):
        read_npz(bytes(content), tmp_path)


def test_flipped_bits(tmp_path):
    content = npz(a=np.arange(7.0))
    start = content.index(np.float64(1.0).tobytes())
    for byte in range(start, start + 48, 5):
        flipped = bytearray(content)
        flipped[byte] ^= 4
        with pytest.raises(ValueError, match="CRC"):
            read_npz(bytes(flipped), tmp_path)


def test_open_npy_maps_the_file(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(6.0).reshape(2, 3))
    array = open_npy(path)
    assert isinstance(array, np.memmap)
    assert array[1].tolist() == [3.0, 4.0, 5.0]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no array",
        npy(np.ones(30))[:-8],
        header((10**12,)) + bytes(24),
        npy(np.array([None])),
        npy(np.array(["text"])),
    ],
)
def test_open_npy_refuses(tmp_path, content):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npy' is not a \.npy file"):
        open_npy(path)
    with pytest.raises(FileNotFoundError, match="none"):
        open_npy(tmp_path / "none.npy")


def test_to_tensor():
    tensor = to_tensor(np.array([[1, 2], [3, 4]]), 2, "'a'")
    assert tensor.dtype == torch.float32
    assert tensor.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    for bad in (np.ones((2, 3)), np.ones(2), np.ones((0, 2))):
        with pytest.raises(ValueError, match=r"'a' must have shape \(n, 2\), got"):
            to_tensor(bad, 2, "'a'")
    for value in (np.nan, np.inf, 1e300):
        with pytest.raises(ValueError, match="'a' has values that are not finite"):
            to_tensor(np.full((2, 2), value), 2, "'a'")


def test_array_length_of_what_has_none(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(npz(scalar=np.float32(1.0), rows=np.zeros((4, 2))))
    assert array_length(path, "rows") == 4
    for name in ("scalar", "other"):
        with pytest.raises(ValueError, match=f"does not tell the length of '{name}'"):
            array_length(path, name)
