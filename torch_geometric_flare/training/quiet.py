"""Filters for irrelevant messages of Lightning."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.fabric.utilities.warnings import PossibleUserWarning

# The beginning of each message, its category and its module.
_NOISE = (
    # Lightning uses a deprecated PyTorch function to traverse batches.
    (
        r"`isinstance\(treespec, LeafSpec\)` is deprecated",
        FutureWarning,
        r"lightning\.pytorch\.utilities\._pytree",
    ),
    # Samples of a simulated or stored data set are in memory; the caller chooses the
    # number of workers.
    (
        r"The '\w+_dataloader' does not have many workers",
        PossibleUserWarning,
        r"lightning\.pytorch\.trainer\.connectors\.data_connector",
    ),
)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence these warnings and advertisements in the log."""
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
