r"""What was stored, so that a later load can tell whether it is still the same.

A large file has a record beside it (`<name>.json`); the sample files of a data set
share one manifest of fingerprints, and each is checked as it is read.
"""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Fingerprint = dict[str, Any]


def record_path(path: Path) -> Path:
    r"""Return the path of a file's record, `<name>.json` beside it."""
    return path.with_name(f"{path.name}.json")


def write_record(
    path: Path, *, repo_id: str | None, revision: str | None, commit: str | None
) -> str:
    r"""Record a file's size, SHA-256 and origin beside it.

    Args:
        path: The file; it is read whole.
        repo_id: The repository that it came from; `None` if placed by hand.
        revision: The revision that was asked for.
        commit: The commit that the revision resolved to, where known.

    Returns:
        The SHA-256.
    """
    sha256 = file_sha256(path)
    record = {
        "file": path.name,
        "size": path.stat().st_size,
        "sha256": sha256,
        "repo_id": repo_id,
        "revision": revision,
        "commit": commit,
    }
    write_json(record_path(path), record)
    return sha256


def verify(path: str | os.PathLike[str]) -> None:
    r"""Check a file's size and SHA-256 against the record beside it.

    The whole file is read.

    Args:
        path: A file that `download_from_hub` has recorded.

    Raises:
        FileNotFoundError: If the file or its record is missing.
        ValueError: If the bytes differ.
    """
    path = Path(path)
    record = read_json(record_path(path))
    size = path.stat().st_size
    if size != record.get("size"):
        found, recorded = f"{size} bytes", f"{record.get('size')} bytes"
    else:
        found, recorded = (
            f"SHA-256 {file_sha256(path)}",
            f"SHA-256 {record.get('sha256')}",
        )
    if found != recorded:
        raise ValueError(
            f"'{path}' has changed since it was recorded: found {found}, recorded "
            f"{recorded}. Delete it and '{record_path(path).name}', then fetch it "
            "again."
        )


def fingerprint(content: bytes) -> Fingerprint:
    r"""Return the size and SHA-256 of the content of a sample's file."""
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def fingerprint_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> Fingerprint:
    r"""Return the size and SHA-256 of a sample that is a slice of larger arrays.

    Args:
        arrays: The sample's part of each array. Names, types and shapes count as the
            numbers do.
    """
    total = hashlib.sha256()
    size = 0
    for name, array in sorted(arrays.items()):
        total.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(np.ascontiguousarray(array).tobytes())
        size += array.nbytes
    return {"size": size, "sha256": total.hexdigest()}


def check_fingerprint(what: str, found: Fingerprint, expected: Fingerprint) -> None:
    r"""Check that what was read is what the data set was processed from.

    Args:
        what: What was read, for the message.
        found: Its fingerprint.
        expected: The fingerprint in the manifest; further entries do not matter.

    Raises:
        ValueError: If the two differ.
    """
    if any(expected.get(key) != value for key, value in found.items()):
        raise ValueError(
            f"{what} has changed since the data set was processed: found {found}, "
            f"recorded size {expected.get('size')}, sha256 {expected.get('sha256')}. "
            "Restore the file, or pass force_reload=True to accept it as it is."
        )


def describe(transform: object) -> str:
    r"""Return a text that is the same in every process: no address in memory."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(transform))


def read_verified(path: str | os.PathLike[str], expected: Fingerprint) -> bytes:
    r"""Read a whole file and check it against its `fingerprint`.

    What is checked is what is returned: the file is read once.

    Args:
        path: The file.
        expected: A dictionary with the `size` and `sha256` of the file.

    Returns:
        The file's content.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If the bytes differ.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"'{path}' is gone since the data set was processed. Restore the file, or "
            "make the data set again with force_reload=True."
        ) from error
    check_fingerprint(f"'{path}'", fingerprint(content), expected)
    return content


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    r"""Read a JSON object, with errors that name the file.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it is no file, no JSON, or no object.
    """
    if Path(path).is_dir():
        raise ValueError(f"'{path}' is a folder, not a JSON file; delete it.")
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (RecursionError, ValueError) as error:
        raise ValueError(f"'{path}' is not valid JSON ({error}); delete it.") from error
    if not isinstance(value, dict):
        raise ValueError(f"'{path}' is not a JSON object; delete it.")
    return value


def scratch_path(path: Path) -> Path:
    r"""Return a name beside a file that no other writer takes.

    Containers that share a disk number their processes alike.
    """
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def write_atomic(path: str | os.PathLike[str], content: bytes) -> None:
    r"""Write a file so that it is either the old one or wholly the new one."""
    path = Path(path)
    scratch = scratch_path(path)
    try:
        scratch.write_bytes(content)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def write_json(path: str | os.PathLike[str], value: dict[str, Any]) -> None:
    r"""Write a JSON object, atomically."""
    write_atomic(path, (json.dumps(value, indent=1) + "\n").encode())


def file_sha256(path: Path) -> str:
    r"""Return the SHA-256 of a file in hexadecimal digits."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()
