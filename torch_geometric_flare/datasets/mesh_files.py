"""The files of a folder of meshes, and the folder of what is stored of them."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile


def find_meshes(root: Path, suffixes: Sequence[str]) -> list[str]:
    """Return the names of the mesh files in a folder, in order.

    Args:
        root: The folder.
        suffixes: Suffixes of mesh files, case-insensitive.

    Raises:
        FileNotFoundError: If it is not a folder, or holds no meshes.
    """
    kinds = tuple(suffix.lower() for suffix in suffixes)
    if not root.is_dir():
        raise FileNotFoundError(
            f"root='{root}' is not a folder: give that of the meshes."
        )
    files = [path for path in root.iterdir() if path.is_file()]
    names = [
        path.name
        for path in files
        if path.suffix.lower() in kinds and not path.name.startswith(".")
    ]
    if not names:
        others = sorted({path.suffix for path in files}) or "no files"
        raise FileNotFoundError(
            f"root='{root}' holds no meshes ({', '.join(kinds)}), but {others}."
        )
    return sorted(names)


def check_writable(cache: Path, root: Path) -> None:
    """Create a folder; raise `OSError` if it is not writable."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=cache):
            pass
    except OSError as error:
        raise OSError(
            f"cache='{cache}' cannot be written to ({error.strerror}), where the "
            f"meshes of '{root}' are stored as arrays: pass cache= another folder"
        ) from error
