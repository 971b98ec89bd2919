"""How long a training takes, by its first steps."""

import statistics
import time
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

# The first ones compile kernels and take memory.
_SKIPPED, _MEASURED = 2, 10


class TimeEstimate(Callback):
    """Prints how long the rest of a training takes, once a few steps have told.

    A training of fewer steps is over as soon, and nothing is printed.
    """

    def __init__(self) -> None:
        self._times: list[float] = []

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Take the time, and print the estimate after the last of the first steps."""
        if len(self._times) > _SKIPPED + _MEASURED:
            return
        device = trainer.strategy.root_device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self._times.append(time.perf_counter())
        total = int(trainer.estimated_stepping_batches)
        left = total - trainer.global_step
        if len(self._times) > _SKIPPED + _MEASURED and left > 0:
            ends = self._times[_SKIPPED:]
            steps = [end - start for start, end in zip(ends, ends[1:], strict=False)]
            step = statistics.median(steps)
            text = (
                f"about {describe_duration(left * step)} to train: "
                f"{total:,} steps of {step:.2g} s"
            )
            bar = trainer.progress_bar_callback
            print(text) if bar is None else bar.print(text)


def describe_duration(seconds: float) -> str:
    """Return a time in words.

    Args:
        seconds: The time.
    """
    for unit, name in ((1, "seconds"), (60, "minutes")):
        if seconds < 90 * unit:
            return f"{seconds / unit:.0f} {name}"
    hours = seconds / 3600
    return f"{hours:.1f} hours" if hours < 10 else f"{hours:.0f} hours"
