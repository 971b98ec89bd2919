"""What happens around the steps of a training."""

import math
import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping
from lightning.pytorch.trainer.states import TrainerFn

from torch_geometric_flare._arguments import as_path
from torch_geometric_flare._random import keep_random_state
from torch_geometric_flare.training.resuming import check_same, describe_arithmetic
from torch_geometric_flare.training.sampling import seed_epoch

# Lifetimes of an average that the training must span: the first weights then keep a
# share of exp(-20).
_LIFETIMES = 20


def scaled_ema_decay(decay: float, num_steps: int) -> float:
    r"""Return the decay of an average that forgets the first weights in time.

    An average of decay $d$ looks back over $1 / (1 - d)$ steps. The training must span
    twenty times that, or the average is still made of the first weights; a shorter one
    gets a smaller decay.

    Args:
        decay: The decay for a long training, in $[0, 1)$.
        num_steps: Steps $n$ of this training.

    Returns:
        The smaller of `decay` and $1 - 20 / n$, at least zero.

    Raises:
        ValueError: If `decay` lies outside $[0, 1)$ or `num_steps` is below one.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay must lie in [0, 1), got {decay}")
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    return max(0.0, min(decay, 1 - _LIFETIMES / num_steps))


class EpochSeed(Callback):
    """Seeds every epoch from (seed, epoch), so that a resumed one equals the first.

    The random numbers that the caller had before are restored at the end.

    Args:
        seed: The seed of the training.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._caller = ExitStack()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keep the random numbers of the caller."""
        if stage == TrainerFn.FITTING:
            self._caller.close()
            self._caller.enter_context(keep_random_state())

    def teardown(
        self, trainer: Trainer, pl_module: LightningModule, stage: str
    ) -> None:
        """Restore the random numbers of the caller."""
        self._caller.close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Restore the random numbers of the caller; Lightning calls no `teardown`."""
        self._caller.close()

    def on_train_epoch_start(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> None:
        """Seed before anything of the epoch runs."""
        seed_epoch(self.seed, trainer.current_epoch, trainer.global_rank)


class LastingEarlyStopping(EarlyStopping):
    """Lightning's, which a training that it ended does not outlive by resuming."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once where the checkpoint was stopped."""
        if self.stopped_epoch > 0:
            trainer.should_stop = True


class EpochCheckpoint(Checkpoint):
    """Writes `last.ckpt` at the end of each epoch, after its validation.

    The file is replaced in one step: whenever the training is killed, a whole
    checkpoint remains. It tells the precision, the devices and the algorithms of the
    training; one by others is not resumed from it.

    Args:
        folder: The folder of the training.
        keep_best: Whether to keep the checkpoint of the lowest `val_loss` as
            `best.ckpt`, the earliest of equal ones.
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
        """Refuse to continue a training by another arithmetic.

        Raises:
            ValueError: If the checkpoint's arithmetic is not this one.
        """
        if trainer.state.fn == TrainerFn.FITTING:
            here = describe_arithmetic(trainer)
            check_same(checkpoint.get("arithmetic"), here, "arithmetic")
            if self.best_path.exists():
                self.lowest = checkpoint.get("lowest_val_loss", math.inf)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the checkpoint and put it in the old one's place."""
        # The progress bar of the first process has averaged the metrics over all; the
        # others must do so before they wait for it.
        loss = float(trainer.callback_metrics.get("val_loss", math.inf))
        is_best = self.keep_best and loss < self.lowest
        if is_best:
            self.lowest = loss
        unfinished = self.path.with_suffix(".ckpt.part")
        trainer.save_checkpoint(unfinished, weights_only=False)
        if trainer.is_global_zero:
            if is_best:
                # Before the last one: a training killed in between comes here again.
                copied = self.best_path.with_suffix(".ckpt.part")
                shutil.copyfile(unfinished, copied)
                os.replace(copied, self.best_path)
            os.replace(unfinished, self.path)
        trainer.strategy.barrier()  # No process reads the file before it is there.
