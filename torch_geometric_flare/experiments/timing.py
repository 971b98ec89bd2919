"""Time and memory of training and prediction."""

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

# Enough for a median, since a long training may have a million steps.
_KEPT = 1000
# Steps for an estimate; the first ones are skipped, since they compile kernels and
# allocate memory.
_SKIPPED, _MEASURED = 2, 10
_TRIAL_STEPS = 10
_BUDGET = "time_budget.json"
_PREDICTION_SECONDS = 0.5


class StepTimer(Callback):
    """Measures the time of whole steps: batch, forward, backward and update.

    The measurements are saved in checkpoints, so that a resumed training includes all
    of its steps.

    Attributes:
        steps: Number of training steps so far.
        seconds: Time of these steps.
        peak_memory: Peak memory in bytes so far of any process of the training; `None`
            if the system does not provide it.
        device: Device of the training.
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
        """Median over the last 1,000 steps, which is robust against a few slow ones."""
        return statistics.median(self._durations)

    def setup(
        self, trainer: Trainer, pl_module: LightningModule, stage: str | None = None
    ) -> None:
        """Store the device."""
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
        """Measure the time since the end of the last step."""
        now = _now(self.device)
        self._durations.append(now - self._last)
        self.seconds += now - self._last
        self._last = now
        self.steps += 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the peak memory."""
        now = peak_memory(self.device)
        if now is not None:
            self.peak_memory = max(now, self.peak_memory or 0)

    def state_dict(self) -> dict[str, Any]:
        """Return the measurements as plain values."""
        return {
            "steps": self.steps,
            "seconds": self.seconds,
            "peak_memory": self.peak_memory,
            "durations": list(self._durations),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore earlier measurements."""
        self.steps = state_dict["steps"]
        self.seconds = state_dict["seconds"]
        self.peak_memory = state_dict["peak_memory"]
        self._durations = deque(state_dict["durations"], maxlen=_KEPT)


class TimeEstimate(Callback):
    """Logs an estimate of the remaining training time after the first steps.

    Shorter trainings log nothing.
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
        """Measure the time, and log the estimate once there are enough steps."""
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
    """Format a duration for reading.

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
    """Return how many training steps fit into a time on this machine.

    Measures ten steps of a copy of the module. The result is saved in the folder of the
    training, so that a resumed training keeps the number of steps and the schedule.

    Args:
        seconds: The time.
        config: Options of the trainer.
        module: The module to train; unchanged.
        data: The splits.
        folder: The folder of the training.

    Returns:
        Number of steps, at least one.
    """
    file = folder / _BUDGET
    if file.exists():
        steps: int = json.loads(file.read_text())["steps"]
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
    file.write_text(json.dumps({"seconds": seconds, "steps": steps}) + "\n")
    return steps


def points_per_second(
    surrogate: Surrogate, samples: Sequence[Data], device: torch.device
) -> float:
    """Return the points predicted per second by a surrogate, one sample at a time.

    The transfer of samples to the device is excluded. The time includes the
    construction of edges for networks that need them.

    Args:
        surrogate: A trained surrogate; it is moved to `device`.
        samples: Samples to predict, cyclically for about half a second.
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
    """Return the peak memory so far in bytes.

    Args:
        device: A GPU for the memory of the tensors of this process on it; any other
            device for the resident memory of this process.

    Returns:
        Bytes; `None` on Windows.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return None
    # On Linux, ru_maxrss starts from the value of the parent process.
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
