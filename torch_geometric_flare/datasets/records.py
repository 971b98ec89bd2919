r"""What was stored, so that a later load can tell whether it is still the same.

A large file has a record beside it (`<name>.json`); the sample files of a data set
share one manifest of fingerprints, and each is checked as it is read.
"""

import hashlib
import json
import os
import re
from io import BytesIO
from pathlib import Path
from pickle import PicklingError, UnpicklingError
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data


def record_path(path: Path) -> Path:
    r"""Gives the path of a file's record, `<name>.json` beside it."""
    return path.with_name(f"{path.name}.json")


def write_record(
    path: Path, *, repo_id: str | None, revision: str | None, commit: str | None
) -> str:
    r"""Records a file's size, SHA-256 and origin beside it.

    Args:
        path: The file; it is read whole.
        repo_id: The repository that it came from; `None` if placed by hand.
        revision: The revision that was asked for.
        commit: The commit that the revision resolved to, where known.

    Returns:
        The SHA-256.
    """
    sha256 = _sha256(path)
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
    r"""Checks a file's size and SHA-256 against the record beside it.

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
        found, recorded = f"SHA-256 {_sha256(path)}", f"SHA-256 {record.get('sha256')}"
    if found != recorded:
        raise ValueError(
            f"'{path}' has changed since it was recorded: found {found}, recorded "
            f"{recorded}. Delete it and '{record_path(path).name}', then fetch it "
            "again."
        )


def fingerprint(content: bytes) -> dict[str, Any]:
    r"""Gives the size and SHA-256 of a sample file's content, for its manifest."""
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def describe(transform: object) -> str:
    r"""Gives a text that is the same in every process: no address in memory."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(transform))


def read_verified(path: str | os.PathLike[str], expected: dict[str, Any]) -> bytes:
    r"""Reads a whole file and checks it against its `fingerprint`.

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
    content = Path(path).read_bytes()
    found = fingerprint(content)
    if any(expected.get(key) != value for key, value in found.items()):
        raise ValueError(
            f"'{path}' has changed since the data set was processed: found {found}, "
            f"recorded size {expected.get('size')}, sha256 {expected.get('sha256')}. "
            "Restore the file, or pass force_reload=True to accept it as it is."
        )
    return content


def serialize(data: object, source: Path) -> bytes:
    r"""Gives what `pre_transform` returned as the bytes of a file that holds no code.

    Args:
        data: A `Data` whose fields are tensors and plain Python values.
        source: The file that it was made from, for the messages.

    Returns:
        A dictionary of the fields as `torch.save` writes it, which
        `torch.load(..., weights_only=True)` reads.

    Raises:
        ValueError: If it is no `Data`, or if a field is of another type.
    """
    if not isinstance(data, Data):
        raise ValueError(
            f"pre_transform must return a Data, got {type(data).__name__} for "
            f"'{source}'."
        )
    # A slice would take all of the tensor that it is a view of to disk.
    fields = {
        key: value.clone() if isinstance(value, Tensor) else value
        for key, value in data.to_dict().items()
    }
    buffer = BytesIO()
    try:
        torch.save(fields, buffer)
        torch.load(BytesIO(buffer.getvalue()), weights_only=True)
    except (AttributeError, PicklingError, TypeError, UnpicklingError) as error:
        raise ValueError(
            f"what pre_transform made of '{source}' holds more than tensors and plain "
            f"Python values, and cannot be stored: {list(fields)}."
        ) from error
    return buffer.getvalue()


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    r"""Reads a JSON object, with errors that name the file."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"'{path}' is not valid JSON ({error}); delete it.") from error
    if not isinstance(value, dict):
        raise ValueError(f"'{path}' is not a JSON object; delete it.")
    return value


def write_atomic(path: str | os.PathLike[str], content: bytes) -> None:
    r"""Writes a file so that it is either the old one or wholly the new one."""
    path = Path(path)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        scratch.write_bytes(content)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def write_json(path: str | os.PathLike[str], value: dict[str, Any]) -> None:
    r"""Writes a JSON object, atomically."""
    write_atomic(path, (json.dumps(value, indent=1) + "\n").encode())


def _sha256(path: Path) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()
