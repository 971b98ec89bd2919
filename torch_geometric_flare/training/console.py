"""Logging, errors and threads of command-line tools."""

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from torch_geometric_flare._extras import MissingExtra


class _Console(logging.Handler):
    """Prints to the current streams, which may have been redirected."""

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if record.levelno < logging.WARNING:
            print(text, flush=True)
        else:
            print(f"{record.levelname.lower()}: {text}", file=sys.stderr, flush=True)


@contextmanager
def show_log() -> Iterator[None]:
    """Print the package's log, with warnings and errors on standard error."""
    log = logging.getLogger("torch_geometric_flare")
    if any(isinstance(handler, _Console) for handler in log.handlers):
        yield
        return
    console, level = _Console(), log.level
    log.addHandler(console)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(console)
        log.setLevel(level)


@contextmanager
def user_errors() -> Iterator[None]:
    """Show the log, print user errors as one line, and exit with status 2.

    User errors are `ValueError`, `OSError`, a missing extra, and Lightning's
    `MisconfigurationException`. They are printed to standard error without a traceback;
    other errors are not caught. Use it in a `with` statement, or as the decorator
    `@user_errors()` of a script's main function.

    Raises:
        SystemExit: With exit code 2, instead of these errors.
    """
    try:
        with show_log():
            yield
    except (OSError, ValueError, MisconfigurationException, MissingExtra) as error:
        print("error:", *str(error).split(), file=sys.stderr)
        raise SystemExit(2) from error


def set_threads(threads: int | None) -> None:
    """Set the number of CPU threads for this process and its child processes.

    The number of threads changes the order of sums and thus the last bits of results.

    Args:
        threads: Number of threads; `None` changes nothing.
    """
    if threads is None:
        return
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)


class _SetThreads(argparse.Action):
    """Sets the threads without an entry in the namespace."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        threads = int(str(values))
        if threads < 1:
            parser.error(f"--threads must be at least 1, got {threads}")
        set_threads(threads)


def add_threads_option(parser: argparse.ArgumentParser) -> None:
    """Add `--threads`, which calls `set_threads` when the command line is parsed.

    Args:
        parser: The parser. The namespace gets no entry.
    """
    parser.add_argument(
        "--threads",
        type=int,
        action=_SetThreads,
        default=argparse.SUPPRESS,
        help="number of CPU threads (default: one per core)",
    )
