"""Files that are replaced as a whole, hashes, archives of torch, tables and meshes."""

import csv
import hashlib
import os
import secrets
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

MESH_SUFFIXES = (".stl", ".ply", ".obj", ".vtp", ".vtu", ".vtk")
"""Suffixes of the mesh files that are searched in a folder."""

_FOLDER = 0x10  # marks a folder in a zip archive


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a name beside a file, and move what is written there to the file's place.

    The file is either the old one or wholly the new one. After an error the old one is
    left, and nothing else. No other writer takes the name: containers that share a disk
    number their processes alike.

    Args:
        path: The file.
    """
    path = Path(path)
    scratch = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        yield scratch
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def write_atomic(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file so that it is either the old one or wholly the new one."""
    with replacing(path) as scratch:
        scratch.write_bytes(content)


def sha256_of(content: bytes) -> str:
    """Return the SHA-256 of bytes in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits, read block by block."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def read_table(path: Path) -> list[list[str]]:
    """Return the rows of a file of comma-separated values, empty ones too.

    Args:
        path: The file, in UTF-8, with or without the byte order mark of spreadsheets.

    Raises:
        ValueError: If it is not such a file; the message names it.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(csv.reader(file, skipinitialspace=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"'{path}' is not a table in UTF-8: {error}") from error


def check_archive(file: IO[bytes]) -> int:
    """Verify the checksums of an archive of `torch.save`; `torch.load` does not.

    Args:
        file: The archive.

    Returns:
        The size of its entries in bytes.

    Raises:
        zipfile.BadZipFile: If it is damaged.
    """
    length = file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
        if size > length:  # torch.save compresses nothing
            raise zipfile.BadZipFile(f"claims {size} bytes in a file of {length} bytes")
        if (damaged := archive.testzip()) is not None:
            raise zipfile.BadZipFile(
                f"{damaged!r} does not have the checksum it should"
            )
        for entry in archive.infolist():
            # torch would return uninitialized memory for entries marked as folders.
            if entry.external_attr & _FOLDER:
                raise zipfile.BadZipFile(f"{entry.filename!r} is marked as a folder")
    return size
