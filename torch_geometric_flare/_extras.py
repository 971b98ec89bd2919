"""Packages that only a part of this one needs."""

from collections.abc import Iterator
from contextlib import contextmanager


class MissingExtra(ImportError):
    """A package is not installed; the message says what installs it."""


def install_command(extra: str) -> str:
    """Return what installs an extra, for messages; the package is on no index.

    Args:
        extra: Such as `train`; several with commas between.
    """
    return f'pip install ".[{extra}]" in a clone of torch_geometric_flare'


@contextmanager
def needs_extra(extra: str, what: str) -> Iterator[None]:
    """Say what to install, where an import in the context finds no such package.

    Args:
        extra: What brings the package, such as `train`; several with commas between.
        what: What needs it.

    Raises:
        MissingExtra: In place of a `ModuleNotFoundError`.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        raise MissingExtra(
            f"{what} needs {missing}, which is not installed: {install_command(extra)}",
            name=missing,
        ) from error
