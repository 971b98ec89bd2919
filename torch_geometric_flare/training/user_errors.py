"""Errors of a command line's user."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.fabric.utilities.exceptions import MisconfigurationException

from torch_geometric_flare._extras import MissingExtra


@contextmanager
def user_errors() -> Iterator[None]:
    """End the process, after one sentence, on what the user of a command can mend.

    These are `ValueError`, `OSError`, an extra that is not installed, and Lightning's
    `MisconfigurationException`. They
    go to the standard error without a traceback; all others are left alone. Use it in a
    `with` statement, or on the main function of a script, as `@user_errors()`.

    Raises:
        SystemExit: With exit code 2, in place of these errors.
    """
    try:
        yield
    except (OSError, ValueError, MisconfigurationException, MissingExtra) as error:
        print("error:", *str(error).split(), file=sys.stderr)
        raise SystemExit(2) from error
