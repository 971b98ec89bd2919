"""Where a training writes."""

import time
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

_CONFIG = "config.yaml"


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
            checkpoint, or the `config.yaml` of a run that was killed before the first.

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
    if not any((folder / name).is_file() for name in ("last.ckpt", _CONFIG)):
        raise FileNotFoundError(
            f"resume={str(resume)!r} holds no last.ckpt, as the first is written after "
            "an epoch: start again without resuming"
        )
    return folder


def drop_unused(folder: Path) -> None:
    """Delete the folder of a training that has written nothing but its options."""
    if [path.name for path in folder.iterdir()] == [_CONFIG]:
        (folder / _CONFIG).unlink()
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
