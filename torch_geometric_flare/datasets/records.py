r"""Records of stored files, to detect changes when they are loaded.

A large file has a record in the same folder (`<name>.json`); the sample files of a data
set share one manifest of fingerprints, and each is verified when read.
"""

import hashlib
import json
import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import numpy.typing as npt

from torch_geometric_flare._files import file_sha256, sha256_of, write_atomic

Fingerprint = dict[str, Any]
_AGAIN = "pass force_reload=True to process it again."


def record_path(path: Path) -> Path:
    r"""Return the path of a file's record, `<name>.json` in the same folder."""
    return path.with_name(f"{path.name}.json")


def write_record(
    path: Path, *, repo_id: str | None, revision: str | None, commit: str | None
) -> str:
    r"""Write a record of a file's size, SHA-256 and origin.

    Args:
        path: The file; it is read whole.
        repo_id: Its repository; `None` if placed manually.
        revision: The requested revision.
        commit: The commit that the revision resolved to, if known.

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
    r"""Check a file's size and SHA-256 against its record.

    The whole file is read.

    Args:
        path: A file that `download_from_hub` has recorded.

    Raises:
        FileNotFoundError: If the file or its record is missing.
        ValueError: If the bytes differ.
    """
    path = Path(path)
    record = read_json(record_path(path))
    found, recorded = f"{path.stat().st_size} bytes", f"{record.get('size')} bytes"
    if found == recorded:
        found, recorded = (
            f"SHA-256 {digest}" for digest in (file_sha256(path), record.get("sha256"))
        )
    if found != recorded:
        raise ValueError(
            f"'{path}' has changed since it was recorded: found {found}, recorded "
            f"{recorded}. Delete it and '{record_path(path).name}', then fetch it "
            "again."
        )


def fingerprint(content: bytes) -> Fingerprint:
    r"""Return the size and SHA-256 of the content of a sample's file."""
    return {"size": len(content), "sha256": sha256_of(content)}


def fingerprint_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> Fingerprint:
    r"""Return the size and SHA-256 of a sample that is a slice of larger arrays.

    Args:
        arrays: The sample's part of each array. Names, types and shapes enter the hash
            too.
    """
    total = hashlib.sha256()
    size = 0
    for name, array in sorted(arrays.items()):
        total.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(np.ascontiguousarray(array).tobytes())
        size += array.nbytes
    return {"size": size, "sha256": total.hexdigest()}


def check_fingerprint(what: str, found: Fingerprint, expected: Fingerprint) -> None:
    r"""Check that the content is the same as when the data set was processed.

    Args:
        what: Name of the content, for the message.
        found: Its fingerprint.
        expected: The fingerprint in the manifest; further entries are ignored.

    Raises:
        ValueError: If the two differ.
    """
    if any(expected.get(key) != value for key, value in found.items()):
        raise ValueError(
            f"{what} has changed since the data set was processed: found {found}, "
            f"recorded size {expected.get('size')}, sha256 {expected.get('sha256')}. "
            "Restore the file, or pass force_reload=True to accept it as it is."
        )


def read_verified(path: str | os.PathLike[str], expected: Fingerprint) -> bytes:
    r"""Read a whole file and check it against its `fingerprint`.

    The file is read once, so the verified bytes are the returned ones.

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
        ValueError: If it is not a file, not JSON or not an object.
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


def write_json(path: str | os.PathLike[str], value: dict[str, Any]) -> None:
    r"""Write a JSON object, atomically."""
    write_atomic(path, (json.dumps(value, indent=1) + "\n").encode())


@dataclass(frozen=True)
class Manifest:
    r"""Manifest of the samples of a split, written when all are processed.

    Args:
        path: The file.
        pre_transform: Description of the requested `pre_transform`; `None` if there is
            none.
        fields: Names of the requested targets.
    """

    path: Path
    pre_transform: str | None
    fields: list[str]

    def write(self, samples: dict[str, Fingerprint]) -> None:
        """Write the manifest.

        Args:
            samples: Fingerprint and `num_points` of each sample, by name.
        """
        write_json(
            self.path,
            {
                "pre_transform": self.pre_transform,
                "fields": self.fields,
                "samples": samples,
            },
        )

    def read(self, names: list[str]) -> tuple[dict[str, Fingerprint], bool]:
        """Read the manifest and compare it with the request.

        A `pre_transform` other than the requested one gives a `UserWarning`.

        Args:
            names: The samples that exist now.

        Returns:
            Fingerprint and `num_points` of each sample by name, and whether the
            results of a `pre_transform` are stored.

        Raises:
            ValueError: If the manifest is malformed, names other samples, or stored
                results are of other fields.
        """
        content = read_json(self.path)
        samples, described = content.get("samples"), content.get("pre_transform")
        if not isinstance(samples, dict) or set(samples) != set(names):
            raise ValueError(
                f"'{self.path.parent}' was processed from other samples than there "
                f"are now: {_difference(set(names), samples)}. Delete '{self.path}' to "
                "process those that are there now."
            )
        for name, entry in samples.items():
            size = entry.get("num_points") if isinstance(entry, dict) else None
            if not isinstance(size, int):
                raise ValueError(
                    f"'{self.path}' has a damaged entry for {name!r}; {_AGAIN}"
                )
        if described is not None and content.get("fields") != self.fields:
            raise ValueError(
                f"'{self.path.parent}' holds what pre_transform made for fields="
                f"{content.get('fields')}, not for {self.fields}; {_AGAIN}"
            )
        if described != self.pre_transform:
            warnings.warn(
                f"'{self.path.parent}' was processed with pre_transform={described}, "
                f"not with pre_transform={self.pre_transform}, and is used as it is. "
                "Pass force_reload=True to process it again.",
                stacklevel=_level_of_caller(),
            )
        return samples, described is not None


def _difference(names: set[str], samples: object) -> str:
    """Describe how many samples were added and removed, with an example each."""
    before = set(samples) if isinstance(samples, dict) else set()
    parts = [
        f"{len(some)} {what}, such as {min(some)!r}"
        for some, what in ((names - before, "new"), (before - names, "gone"))
        if some
    ]
    return " and ".join(parts)


def _level_of_caller() -> int:
    """Return the `stacklevel`, for the calling function, of the code outside PyG."""
    level = 1
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_pyg(frame):
        frame = frame.f_back
        level += 1
    return level


def _is_pyg(frame: FrameType) -> bool:
    # The prefix of both PyTorch Geometric and this package.
    return str(frame.f_globals.get("__name__")).startswith("torch_geometric")
