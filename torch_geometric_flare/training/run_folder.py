"""The folder of a training: name, lock, options, log, and checks for resuming."""

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

from torch_geometric_flare._arguments import expand_path

_CONFIG = "config.yaml"
# Errors of file systems that do not support locks.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP)


def run_folder(prefix: str | Path, resume: str | Path | None = None) -> Path:
    """Return the folder of a new training or of a training to resume.

    A new folder is created immediately, so that two calls never return the same one,
    even in the same second. In distributed training, the first process creates it; the
    others get a path to which nothing is written.

    A wrong `resume` raises an error here, whereas `fit` would start a new training in
    that folder.

    Args:
        prefix: Path of a new folder, to which date and time are appended, and a number
            if that folder exists.
        resume: The folder of a killed training, with a checkpoint, or with the
            `config.yaml` of a run that was killed before its first checkpoint; `None`
            for a new training.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: If `resume` is not a folder of a training.
    """
    if resume is None:
        return _create_folder(f"{expand_path(prefix)}-{time.strftime('%y%m%d-%H%M%S')}")
    folder = expand_path(resume)
    if not folder.is_dir():
        raise FileNotFoundError(f"resume={str(resume)!r} is not a folder: look in runs")
    if not any((folder / name).is_file() for name in ("last.ckpt", _CONFIG)):
        raise FileNotFoundError(
            f"resume={str(resume)!r} has no last.ckpt, because the first is written "
            "after an epoch: start again without resuming"
        )
    return folder


def is_first_process() -> bool:
    """Return whether this is the first, or the only, process of a training."""
    return getattr(rank_zero_only, "rank", 0) == 0


def drop_unused(folder: Path) -> None:
    """Delete the folder of a training that has written only its options."""
    if [path.name for path in folder.iterdir()] == [_CONFIG]:
        (folder / _CONFIG).unlink()
    folder.rmdir()


def _create_folder(name: str) -> Path:
    """Create a folder with this name, or with the first free number if it exists."""
    if not is_first_process():
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
    """Lock a folder for the process that enters the context.

    The operating system releases the lock when the process ends, so a stale file does
    not block new runs. File systems without locks are not locked.

    Args:
        folder: The folder; created if it does not exist.

    Raises:
        ValueError: If another context, in this or another process, holds the lock.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise ValueError(
            f"folder={str(folder)!r} is in use by another training: wait until it "
            "ends, or choose another folder"
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    try:
        yield
    finally:
        # Delete the file before releasing the lock. Windows cannot delete open files.
        with suppress(PermissionError):
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def read_history(folder: str | Path) -> dict[str, list[float]]:
    """Read the logged errors of each epoch.

    Args:
        folder: The folder of the training. If an epoch was logged twice, because the
            training was killed, the values of the resumed training are used.

    Returns:
        `epoch`, counted from 0, and the logged names, such as `train_relative_l2`, each
        with one value per epoch in ascending order; NaN for epochs without a value.

    Raises:
        FileNotFoundError: If `folder` has no log.
    """
    logs = sorted(
        expand_path(folder).glob("metrics/version_*/metrics.csv"),
        key=lambda path: int(path.parent.name.removeprefix("version_")),
    )
    if not logs:
        raise FileNotFoundError(
            f"folder={str(folder)!r} has no metrics/version_*/metrics.csv: pass the "
            "folder of fit"
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
    """Describe precision, devices and algorithms of a training as plain values.

    Resuming with another arithmetic would change the bits of the result. The number of
    threads has the same effect but is omitted, because it differs between machines.

    Args:
        trainer: The trainer, connected to its strategy.

    Returns:
        `precision` as in Lightning; `matmul_precision` as in PyTorch; `device`, such as
        `"cuda"`; `deterministic`; `processes`; `processes_per_sample`.
    """
    return {
        "precision": str(trainer.precision),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "device": trainer.strategy.root_device.type,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "processes": trainer.world_size,
        "processes_per_sample": getattr(trainer.strategy, "processes_per_sample", 1),
    }


def check_same(saved: Any, current: Any, what: str) -> None:
    """Raise an error if checkpoint and training differ.

    Args:
        saved: Plain values from the checkpoint.
        current: Plain values of this training.
        what: Name of these values in the message.

    Raises:
        ValueError: If they differ; the message lists the differences.
    """
    changed = _differences(saved, current)
    if changed:
        raise ValueError(
            f"the checkpoint was trained with another {what}; (checkpoint, now): "
            f"{changed}: resume with the same {what}, or start a training in another "
            "folder"
        )


def _differences(saved: Any, current: Any) -> Any:
    """Return pairs of different values, by name for dictionaries; None if equal."""
    if saved == current:
        return None
    if not isinstance(saved, dict) or not isinstance(current, dict):
        return (saved, current)
    return {
        name: (saved.get(name), current.get(name))
        for name in sorted({*saved, *current})
        if saved.get(name) != current.get(name)
    }
