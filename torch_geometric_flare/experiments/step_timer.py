"""Time and memory of the steps of a training."""

import statistics
import time
from collections import deque
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from torch_geometric_flare.experiments.peak_memory import peak_memory

# Enough for a median; a long training has a million steps.
_KEPT = 1000


class StepTimer(Callback):
    """Times whole steps: batch, forward, backward and update.

    What it has measured travels in the checkpoint, so that a resumed training counts
    all of its steps.

    Attributes:
        steps: Steps of the training so far.
        seconds: Time of these steps.
        peak_memory: Largest memory of a process of this training so far, in bytes;
            `None` if the system does not tell.
        device: Where the training computes.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.seconds = 0.0
        self.peak_memory: int | None = None
        self.device = torch.device("cpu")
        self._durations: deque[float] = deque(maxlen=_KEPT)
        self._last = 0.0

    @property
    def seconds_per_step(self) -> float:
        """Median over the last 1,000 steps, which a few slow ones do not move."""
        return statistics.median(self._durations)

    def setup(
        self, trainer: Trainer, pl_module: LightningModule, stage: str | None = None
    ) -> None:
        """Note the device."""
        self.device = trainer.strategy.root_device

    def on_train_epoch_start(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> None:
        """Start the clock."""
        self._last = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Take the time since the end of the last step."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self._durations.append(now - self._last)
        self.seconds += now - self._last
        self._last = now
        self.steps += 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the memory."""
        now = peak_memory(self.device)
        if now is not None:
            self.peak_memory = max(now, self.peak_memory or 0)

    def state_dict(self) -> dict[str, Any]:
        """Return what was measured, in plain values."""
        return {
            "steps": self.steps,
            "seconds": self.seconds,
            "peak_memory": self.peak_memory,
            "durations": list(self._durations),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Carry on from what was measured before."""
        self.steps = state_dict["steps"]
        self.seconds = state_dict["seconds"]
        self.peak_memory = state_dict["peak_memory"]
        self._durations = deque(state_dict["durations"], maxlen=_KEPT)
