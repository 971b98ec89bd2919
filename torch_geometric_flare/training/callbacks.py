"""Lightning callbacks: seeds, early stopping, checkpoints and progress."""

import logging
import math
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    TQDMProgressBar,
    WeightAveraging,
)
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from torch_geometric_flare._arguments import as_path
from torch_geometric_flare._files import replacing
from torch_geometric_flare._random import keep_random_state
from torch_geometric_flare.training.run_folder import check_same, describe_arithmetic
from torch_geometric_flare.training.sampling import seed_epoch

log = logging.getLogger(__name__)

# Minimum length of a training in time constants of the average; the weight of the
# initial parameters is then exp(-20).
_LIFETIMES = 20


def scaled_ema_decay(decay: float, num_steps: int) -> float:
    r"""Return the decay of an average that forgets the initial weights in time.

    An average with decay $d$ has a time constant of $1 / (1 - d)$ steps. The training
    must be twenty times as long; otherwise, the average still contains the initial
    weights. Shorter trainings get a smaller decay.

    Args:
        decay: The decay for a long training, in $[0, 1)$.
        num_steps: Number of steps $n$ of this training.

    Returns:
        The smaller of `decay` and $1 - 20 / n$, at least zero.

    Raises:
        ValueError: If `decay` is outside $[0, 1)$ or `num_steps` is below one.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay must be in [0, 1), got {decay}")
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    return max(0.0, min(decay, 1 - _LIFETIMES / num_steps))


class AveragedWeights(WeightAveraging):
    """Keeps an exponential average of the weights, in single precision at least.

    Validation and checkpoints use it. An average in half precision would lose the
    small share of each step to rounding.

    Args:
        decay: The share of the average that a step keeps.
    """

    def __init__(self, decay: float) -> None:
        update = get_ema_multi_avg_fn(decay)

        def move(average: list[Tensor], weights: list[Tensor], count: Any) -> None:
            cast = [new.to(old) for old, new in zip(average, weights, strict=True)]
            update(average, cast, count)

        # Buffers are copied, not averaged: rounding would change the normalizers.
        super().__init__(use_buffers=False, multi_avg_fn=move)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copy the module in the precision of the trainer, which casts it later."""
        super().setup(trainer, pl_module, stage)
        if stage != TrainerFn.FITTING:
            return
        assert self._average_model is not None
        average = trainer.precision_plugin.convert_module(self._average_model)
        for weight in average.parameters():
            weight.data = weight.to(torch.promote_types(weight.dtype, torch.float32))

    def _swap_models(self, pl_module: LightningModule) -> None:
        """Exchange average and weights without copying, which would round."""
        assert self._average_model is not None
        average = self._average_model.module
        for mean, weight in zip(
            chain(average.parameters(), average.buffers()),
            chain(pl_module.parameters(), pl_module.buffers()),
            strict=True,
        ):
            mean.data, weight.data = weight.data, mean.data


class EpochSeed(Callback):
    """Seeds every epoch from (seed, epoch), so that a resumed epoch is identical.

    The caller's random state is restored at the end.

    Args:
        seed: The seed of the training.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._caller = ExitStack()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save the random state of the caller."""
        if stage == TrainerFn.FITTING:
            self._caller.close()
            self._caller.enter_context(keep_random_state())

    def teardown(
        self, trainer: Trainer, pl_module: LightningModule, stage: str
    ) -> None:
        """Restore the random state of the caller."""
        self._caller.close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Restore the random state of the caller, because `teardown` is not called."""
        self._caller.close()

    def on_train_epoch_start(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> None:
        """Seed before the epoch starts."""
        seed_epoch(self.seed, trainer.current_epoch, trainer.global_rank)


class ResumableEarlyStopping(EarlyStopping):
    """Early stopping that persists if the training is resumed from its checkpoint."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop immediately if the checkpoint was stopped."""
        if self.stopped_epoch > 0:
            trainer.should_stop = True


class EpochCheckpoint(Checkpoint):
    """Writes `last.ckpt` at the end of each epoch, after its validation.

    The file is replaced atomically, so a killed training leaves a complete checkpoint.
    It records precision, devices and algorithms; resuming with others raises an error.

    Args:
        folder: The folder of the training.
        keep_best: Whether to keep the checkpoint with the lowest `val_loss`, the
            earliest in case of ties, as `best.ckpt`.
    """

    def __init__(self, folder: str | Path, keep_best: bool = False) -> None:
        self.path = as_path(folder) / "last.ckpt"
        self.best_path = self.path.with_name("best.ckpt")
        self.keep_best = keep_best
        self.lowest = math.inf

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the arithmetic of the training."""
        checkpoint["arithmetic"] = describe_arithmetic(trainer)
        checkpoint["lowest_val_loss"] = self.lowest

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Check that the arithmetic is the same.

        Raises:
            ValueError: If the checkpoint has another arithmetic.
        """
        if trainer.state.fn == TrainerFn.FITTING:
            current = describe_arithmetic(trainer)
            check_same(checkpoint.get("arithmetic"), current, "arithmetic")
            if self.best_path.exists():
                self.lowest = checkpoint.get("lowest_val_loss", math.inf)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the checkpoint and replace the old one."""
        # The progress bar of the first process averages the metrics over all processes;
        # the others must participate before they wait for it.
        loss = float(trainer.callback_metrics.get("val_loss", math.inf))
        is_best = self.keep_best and loss < self.lowest
        if is_best:
            self.lowest = loss
        unfinished = self.path.with_suffix(".ckpt.part")
        trainer.save_checkpoint(unfinished, weights_only=False)
        if trainer.is_global_zero:
            if is_best:
                # Write it first, so that a training killed in between repeats this
                # epoch.
                with replacing(self.best_path) as temporary:
                    shutil.copyfile(unfinished, temporary)
            os.replace(unfinished, self.path)
        trainer.strategy.barrier()  # no process may read the file before it exists


def _select_metrics(metrics: Mapping[str, Any], validated: bool) -> dict[str, Any]:
    """Select the metrics to show for an epoch, without duplicates.

    Lightning keeps the last value of a metric, and `relative_l2` equals the loss unless
    it is weighted or overridden.
    """
    losses = {name: name.replace("_relative_l2", "_loss") for name in metrics}
    return {
        name: value
        for name, value in metrics.items()
        if (validated or not name.startswith("val_"))
        and (losses[name] == name or value != metrics.get(losses[name]))
    }


class EpochBar(TQDMProgressBar):
    """Lightning's progress bar, without validation errors of earlier epochs."""

    _validated = False

    def on_train_epoch_start(self, trainer: Trainer, *args: Any) -> None:
        """Reset the validation flag."""
        self._validated = False
        super().on_train_epoch_start(trainer, *args)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the validation flag of this epoch."""
        self._validated = True
        super().on_validation_end(trainer, pl_module)

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, Any]:
        """Return the metrics of this epoch."""
        return _select_metrics(super().get_metrics(trainer, pl_module), self._validated)


class EpochLogger(Callback):
    """Logs a line at the end of an epoch, at most every few seconds.

    It replaces the progress bar if the output is not a terminal. If no log handler
    shows the line, it is printed. Validation errors are only in lines of epochs with
    validation.

    Args:
        seconds: Minimum time between two lines; the last epoch is always logged.
    """

    def __init__(self, seconds: float = 10.0) -> None:
        self.seconds = seconds
        self._printed = -float("inf")
        self._validated = False

    def on_train_epoch_start(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> None:
        """Reset the validation flag."""
        self._validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the validation flag of this epoch."""
        self._validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the epoch and the metrics that a bar would show."""
        epoch, epochs = trainer.current_epoch + 1, trainer.max_epochs
        now = time.monotonic()
        is_last = epoch == epochs or trainer.should_stop
        if not trainer.is_global_zero:
            return
        if now - self._printed < self.seconds and not is_last:
            return
        self._printed = now
        measures = _select_metrics(trainer.progress_bar_metrics, self._validated)
        texts = [f"{name} {value:.4g}" for name, value in measures.items()]
        line = f"epoch {epoch}/{epochs}: {', '.join(texts)}"
        if log.isEnabledFor(logging.INFO) and log.hasHandlers():
            log.info(line)
        else:
            # Without a log handler, as in notebooks, Python hides the record.
            print(line, flush=True)
