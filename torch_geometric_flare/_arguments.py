"""Texts of messages, and checks that name what came and what was expected."""

import argparse
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NoReturn

_LONGEST = 60


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(2, f"error: {message}; `{self.prog} --help` lists the options\n")


def brief(value: Any) -> str:
    """Return what a value is, in a few words.

    Args:
        value: Anything, such as an array of a million numbers.
    """
    text = " ".join(repr(value).split())
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + "..."
    return f"{text} ({type(value).__name__})"


def describe(value: object) -> str:
    """Return a text that is the same in every process: no address in memory."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def first_line(error: BaseException) -> str:
    """Return the kind of an error and the first line of its message."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def as_path(path: str | os.PathLike[str]) -> Path:
    """Return an absolute path, `~` being the home folder.

    Relative ones are of the folder at the time of the call, wherever the process goes
    afterwards.
    """
    return Path(os.path.abspath(expand_path(path)))


def expand_path(path: str | os.PathLike[str]) -> Path:
    """Return a path, `~` being the home folder.

    Raises:
        TypeError: If it is not text or a path.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path is {brief(path)}, expected a str or an os.PathLike")
    return Path(os.path.expanduser(path))  # leaves names such as `~$a.vtp` alone


@contextmanager
def prefixed(prefix: str) -> Iterator[None]:
    """Put a prefix, such as `sample 3`, before the message of a `ValueError`."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{prefix}: {error}") from error


def check_numbers(**values: Any) -> None:
    """Raise `TypeError` naming the first of `values` that is not a real number."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"{name} is {brief(value)}, expected a number")


def check_integers(least: int, **values: Any) -> None:
    """Raise an error naming the first of `values` that is not an integer from `least`.

    Raises:
        TypeError: If it is of another kind.
        ValueError: If it is smaller.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise TypeError(f"{name} is {brief(value)}, expected an integer")
        if int(value) < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def check_kind(kind: type | tuple[type, ...], expected: str, **values: Any) -> None:
    """Raise `TypeError` naming the first of `values` that is not of a class.

    Args:
        kind: The class, or several.
        expected: What the message asks for, such as `a torch.nn.Module`.
        **values: Arguments of the caller by name.
    """
    for name, value in values.items():
        if not isinstance(value, kind):
            raise TypeError(f"{name} is {brief(value)}, expected {expected}")


def finite_number(text: str) -> float | None:
    """Return the number that a text is; `None` if it is none, or not finite."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
