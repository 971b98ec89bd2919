"""Time and memory of a training and of its predictions."""

import copy
import itertools
import json
import logging
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch_geometric.data import Data

from torch_geometric_flare import training
from torch_geometric_flare.surrogates import Surrogate

if sys.platform != "win32":
    import resource

log = logging.getLogger(__name__)

# Enough for a median; a long training has a million steps.
_KEPT = 1000
# Of an estimate: the first steps compile kernels and take memory.
_SKIPPED, _MEASURED = 2, 10
_TRIAL_STEPS = 10
_BUDGET = "time_budget.json"
_PREDICTION_SECONDS = 0.5


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
        now = _now(self.device)
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


class TimeEstimate(Callback):
    """Logs how long the rest of a training takes, from its first steps.

    A training of fewer steps logs nothing.
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
        """Take the time, and log the estimate after the last of the first steps."""
        if len(self._times) > _SKIPPED + _MEASURED:
            return
        self._times.append(_now(trainer.strategy.root_device))
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
            log.info(text) if bar is None else bar.print(text)


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


def steps_within(
    seconds: float,
    config: training.TrainerConfig,
    module: training.SurrogateModule,
    data: training.SurrogateDataModule,
    folder: Path,
) -> int:
    """Return how many steps a training makes in a time on this machine.

    Ten steps of a copy of the module are timed. The number is written to the folder of
    the training, so that a resumed one keeps it, and with it the schedule.

    Args:
        seconds: The time.
        config: How the training runs.
        module: The training; left as it is.
        data: The splits.
        folder: The folder of the training.

    Returns:
        Steps, at least one.
    """
    note = folder / _BUDGET
    if note.exists():
        steps: int = json.loads(note.read_text())["steps"]
        return steps
    trial = copy.deepcopy(module)
    trial.recipe = replace(module.recipe, epochs=_TRIAL_STEPS, max_steps=_TRIAL_STEPS)
    config = replace(
        config, keep_best=False, patience=None, logger=None, progress=False
    )
    timer = StepTimer()
    with tempfile.TemporaryDirectory() as temporary:
        training.fit(trial, data, temporary, config, callbacks=[timer])
    steps = max(1, round(seconds / timer.seconds_per_step))
    folder.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps({"seconds": seconds, "steps": steps}) + "\n")
    return steps


def points_per_second(
    surrogate: Surrogate, samples: Sequence[Data], device: torch.device
) -> float:
    """Return the points that a surrogate predicts in a second, sample by sample.

    Samples are on the device before the clock starts. A network that needs edges makes
    them while it runs.

    Args:
        surrogate: A trained surrogate; it stays on `device`.
        samples: What to predict; taken in turn for about half a second.
        device: Where to compute.
    """
    surrogate.to(device)
    surrogate.predict(copy.copy(samples[0]).to(device))  # Warms up.
    points, seconds = 0, 0.0
    for sample in itertools.cycle(samples):
        data = copy.copy(sample).to(device)
        start = _now(device)
        prediction = surrogate.predict(data)
        seconds += _now(device) - start
        points += prediction.size(0)
        if seconds >= _PREDICTION_SECONDS:
            break
    return points / seconds


def peak_memory(device: torch.device) -> int | None:
    """Return the peak of the memory so far, in bytes.

    Args:
        device: A GPU, for the memory of this process's tensors on it; any other, for
            the resident memory of this process.

    Returns:
        Bytes; `None` on Windows.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return None
    # In Linux ru_maxrss begins at the memory of the process that started this one.
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
