"""Where a training writes."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

_OPTIONS = "options.json"


def run_folder(prefix: str | Path, resume: str | Path | None = None) -> Path:
    """Return the folder of a new training, or that of one to carry on.

    A new folder is made at once, so that two calls never return the same one, even in
    the same second. Of processes that train together, the first one makes it; the
    others get a path that nothing is written to.

    `fit` starts anew where its folder holds no checkpoint. Here a name that was
    mistyped is found out instead.

    Args:
        prefix: Path of a new folder, to which date and time are added, and a number
            where that folder exists.
        resume: The folder of a killed training; `None` for a new one. It holds a
            checkpoint, or what `note_options` wrote where it was killed before the
            first.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: If `resume` is no folder of a training.
    """
    if resume is None:
        return _claim(f"{Path(prefix).expanduser()}-{time.strftime('%y%m%d-%H%M%S')}")
    folder = Path(resume).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"resume={str(resume)!r} is no folder: look in runs")
    if not any((folder / name).is_file() for name in ("last.ckpt", _OPTIONS)):
        raise FileNotFoundError(
            f"resume={str(resume)!r} holds no last.ckpt, as the first is written after "
            "an epoch: start again without resuming"
        )
    return folder


def note_options(folder: Path, options: Sequence[str]) -> None:
    """Write the command line of a training to its folder, for `read_options`.

    Args:
        folder: The folder of the training.
        options: The arguments, without those that resume.
    """
    if getattr(rank_zero_only, "rank", 0) == 0:
        (folder / _OPTIONS).write_text(json.dumps(list(options)) + "\n")


def read_options(folder: str | Path) -> list[str]:
    """Return what `note_options` wrote, nothing where it did not.

    Args:
        folder: The folder of the training.

    Raises:
        ValueError: If the file is damaged.
    """
    path = Path(folder).expanduser() / _OPTIONS
    try:
        options = json.loads(path.read_text())
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise ValueError(f"'{path}' is damaged: delete it, and name all options") from (
            error
        )
    if not isinstance(options, list) or not all(isinstance(o, str) for o in options):
        raise ValueError(f"'{path}' holds no list of texts: delete it")
    return options


def drop_unused(folder: Path) -> None:
    """Delete the folder of a training that has written nothing but its options."""
    if [path.name for path in folder.iterdir()] == [_OPTIONS]:
        (folder / _OPTIONS).unlink()
    folder.rmdir()


def _claim(name: str) -> Path:
    """Make a folder of that name, or with the first number that is free."""
    if getattr(rank_zero_only, "rank", 0) != 0:
        return Path(name)
    folder, number = Path(name), 1
    while True:
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
            folder = Path(f"{name}-{number}")
        else:
            return folder
