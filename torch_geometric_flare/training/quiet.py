"""Filters for messages of Lightning that say nothing about a training."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.fabric.utilities.warnings import PossibleUserWarning

# The beginning of each message, its category, and the module that it names.
_NOISE = (
    # Lightning's walk through batches calls what torch has renamed.
    (
        r"`isinstance\(treespec, LeafSpec\)` is deprecated",
        FutureWarning,
        r"lightning\.pytorch\.utilities\._pytree",
    ),
    # Samples of a simulated or stored data set are ready in memory; the number of
    # workers is the caller's choice.
    (
        r"The '\w+_dataloader' does not have many workers",
        PossibleUserWarning,
        r"lightning\.pytorch\.trainer\.connectors\.data_connector",
    ),
)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence exactly these warnings, and advertisements in the log."""
    log = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    with warnings.catch_warnings():
        for message, category, module in _NOISE:
            warnings.filterwarnings("ignore", message, category, module)
        log.addFilter(_is_no_advertisement)
        try:
            yield
        finally:
            log.removeFilter(_is_no_advertisement)


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return "Tip: For seamless" not in record.getMessage()
