"""Progress of a training in a log file."""

import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback


class EpochLines(Callback):
    """Prints a line at the end of an epoch, at most every few seconds.

    A bar draws itself anew again and again: in a file that is one page after another.
    Errors of the validation split stand in lines of epochs that validated.

    Args:
        seconds: Least time between two lines; the last epoch always has one.
    """

    def __init__(self, seconds: float = 10.0) -> None:
        self.seconds = seconds
        self._printed = -float("inf")
        self._validated = False

    def on_train_epoch_start(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> None:
        """Forget the validation of an earlier epoch."""
        self._validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that this epoch has errors of the validation split."""
        self._validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the epoch and the measures that a bar would show."""
        epoch, epochs = trainer.current_epoch + 1, trainer.max_epochs
        now = time.monotonic()
        is_last = epoch == epochs or trainer.should_stop
        if not trainer.is_global_zero:
            return
        if now - self._printed < self.seconds and not is_last:
            return
        self._printed = now
        measures: dict[str, Any] = {
            name: value
            for name, value in trainer.progress_bar_metrics.items()
            if self._validated or not name.startswith("val_")
        }
        texts = [f"{name} {value:.4g}" for name, value in measures.items()]
        print(f"epoch {epoch}/{epochs}: {', '.join(texts)}", flush=True)
