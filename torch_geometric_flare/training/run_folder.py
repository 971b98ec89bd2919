"""The folder of a training: its name, lock, options, log, and what resuming checks."""

import csv
import errno
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only

_CONFIG = "config.yaml"
# Errors of file systems without locks.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP)


def run_folder(prefix: str | Path, resume: str | Path | None = None) -> Path:
    """Return the folder of a new training, or that of one to carry on.

    A new folder is made at once, so that two calls never return the same one, even in
    the same second. Of processes that train together, the first one makes it; the
    others get a path that nothing is written to.

    A mistyped `resume` is an error here, where `fit` would start anew in that folder.

    Args:
        prefix: Path of a new folder, to which date and time are added, and a number
            where that folder exists.
        resume: The folder of a killed training; `None` for a new one. It holds a
            checkpoint, or the `config.yaml` of a run that was killed before the first.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: If `resume` is not a folder of a training.
    """
    if resume is None:
        return _claim(f"{Path(prefix).expanduser()}-{time.strftime('%y%m%d-%H%M%S')}")
    folder = Path(resume).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"resume={str(resume)!r} is not a folder: look in runs")
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
    """Make a folder of that name, with the first free number if it exists."""
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


@contextmanager
def lock_folder(folder: str | Path) -> Iterator[None]:
    """Hold a folder for the process that enters the context.

    The system drops the lock when the process ends, so a stale file does not block new
    runs. On file systems without locks, nothing is locked.

    Args:
        folder: The folder; made if it does not exist.

    Raises:
        ValueError: If another context, here or in another process, holds it.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise ValueError(
            f"folder={str(folder)!r} is in use by another training: wait for its end, "
            "or choose another folder"
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    try:
        yield
    finally:
        # Before the lock ends, so that it is ours. Windows deletes no open file.
        with suppress(PermissionError):
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def read_history(folder: str | Path) -> dict[str, list[float]]:
    """Read the logged errors of each epoch.

    Args:
        folder: The folder of the training. Where an epoch was logged twice, because the
            training was killed in between, the resumed one counts.

    Returns:
        `epoch` and the logged names, such as `train_relative_l2`, each with one value
        per epoch in ascending order; NaN where an epoch was not measured.

    Raises:
        FileNotFoundError: If `folder` holds no log.
    """
    logs = sorted(
        Path(folder).expanduser().glob("metrics/version_*/metrics.csv"),
        key=lambda path: int(path.parent.name.removeprefix("version_")),
    )
    if not logs:
        raise FileNotFoundError(
            f"folder={str(folder)!r} holds no metrics/version_*/metrics.csv: pass the "
            "folder that was given to fit"
        )
    epochs: dict[int, dict[str, float]] = {}
    for log in logs:
        with log.open(newline="") as file:
            for row in csv.DictReader(file):
                values = {
                    name: float(value)
                    for name, value in row.items()
                    if value and name not in ("epoch", "step")
                }
                epochs.setdefault(int(row["epoch"]), {}).update(values)
    names = sorted({name for values in epochs.values() for name in values})
    return {
        "epoch": [float(epoch) for epoch in sorted(epochs)],
        **{
            name: [epochs[epoch].get(name, math.nan) for epoch in sorted(epochs)]
            for name in names
        },
    }


def describe_arithmetic(trainer: Trainer) -> dict[str, Any]:
    """Describe precision, devices and algorithms of a training in plain values.

    Resuming with another arithmetic would change the bits of the result. So would
    another number of threads, which is left out because machines differ in it.

    Args:
        trainer: The trainer, connected to its strategy.

    Returns:
        `precision` as Lightning names it; `matmul_precision` as torch does; `device`,
        such as `"cuda"`; `deterministic`; `processes`; `processes_per_sample`.
    """
    return {
        "precision": str(trainer.precision),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "device": trainer.strategy.root_device.type,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "processes": trainer.world_size,
        "processes_per_sample": getattr(trainer.strategy, "processes_per_sample", 1),
    }


def check_same(theirs: Any, ours: Any, what: str) -> None:
    """Refuse to resume where checkpoint and training differ.

    Args:
        theirs: What the checkpoint says, in plain values.
        ours: What this training says.
        what: What both describe, for the message.

    Raises:
        ValueError: If they differ; the message tells the differences.
    """
    changed = _differences(theirs, ours)
    if changed:
        raise ValueError(
            f"the checkpoint was trained with another {what}; (checkpoint, now): "
            f"{changed}: resume with the same {what}, or start a training in another "
            "folder"
        )


def _differences(theirs: Any, ours: Any) -> Any:
    """Return pairs of different values, by name in dictionaries; None if all agree."""
    if theirs == ours:
        return None
    if not isinstance(theirs, dict) or not isinstance(ours, dict):
        return (theirs, ours)
    return {
        name: (theirs.get(name), ours.get(name))
        for name in sorted({*theirs, *ours})
        if theirs.get(name) != ours.get(name)
    }
