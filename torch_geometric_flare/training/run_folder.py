"""Where a training writes."""

import time
from pathlib import Path


def run_folder(prefix: str | Path, resume: str | Path | None = None) -> Path:
    """The folder of a new training, or that of one to carry on.

    `fit` starts anew where its folder holds no checkpoint. Here a name that was
    mistyped is found out instead.

    Args:
        prefix: Path of a new folder, to which date and time are added.
        resume: The folder of a killed training; `None` for a new one.

    Returns:
        The folder. A new one is left to `fit` to make.

    Raises:
        FileNotFoundError: If `resume` is no folder with a checkpoint.
    """
    if resume is None:
        return Path(f"{prefix}-{time.strftime('%y%m%d-%H%M%S')}")
    folder = Path(resume)
    if not folder.is_dir():
        raise FileNotFoundError(f"resume={str(resume)!r} is no folder: look in runs")
    if not (folder / "last.ckpt").is_file():
        raise FileNotFoundError(
            f"resume={str(resume)!r} holds no last.ckpt, as the first is written after "
            "an epoch: start again without resuming"
        )
    return folder
