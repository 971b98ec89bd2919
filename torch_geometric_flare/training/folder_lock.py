"""One training at a time in a folder."""

import errno
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_NAME = ".lock"
# What a file system answers that knows no locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_held: set[int] = set()


@contextmanager
def lock_folder(folder: str | Path) -> Iterator[None]:
    """Hold a folder for the process that enters the context.

    The system drops the lock when the process ends, however it does, so that what a
    killed training leaves behind keeps nobody out. On Windows, and on file systems
    without locks, nothing is locked.

    Args:
        folder: The folder; made if it does not exist.

    Raises:
        ValueError: If another context, here or in another process, holds it.
    """
    path = Path(folder) / _NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        yield
        return
    descriptor = _open_locked(path)
    _held.add(descriptor)
    try:
        os.ftruncate(descriptor, 0)
        os.write(
            descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode()
        )
        yield
    finally:
        path.unlink(missing_ok=True)  # before the lock ends, so that it is ours
        _held.discard(descriptor)
        os.close(descriptor)


def _open_locked(path: Path) -> int:
    """Open the file and lock it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(descriptor)
        except BlockingIOError as error:
            holder = os.read(descriptor, 200).decode(errors="replace")
            os.close(descriptor)
            raise ValueError(
                f"folder={str(path.parent)!r} is in use by a training "
                f"({holder or 'just started'}): wait for its end, or choose another "
                "folder"
            ) from error
        if _is_at(path, descriptor):
            return descriptor
        os.close(descriptor)  # Its holder deleted the file while it was opened here.


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _is_at(path: Path, descriptor: int) -> bool:
    """Tell whether the open file is the one of that path."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _close_all() -> None:
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    # A forked worker that outlives a killed training must not keep its lock.
    os.register_at_fork(after_in_child=_close_all)
