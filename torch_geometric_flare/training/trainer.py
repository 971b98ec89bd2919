"""The Lightning trainer of a recipe."""

import sys
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import TQDMProgressBar, WeightAveraging
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.strategies import Strategy
from torch.optim.swa_utils import get_ema_multi_avg_fn

from torch_geometric_flare._arguments import as_path
from torch_geometric_flare.training.callbacks import (
    EpochCheckpoint,
    EpochSeed,
    LastingEarlyStopping,
    scaled_ema_decay,
)
from torch_geometric_flare.training.datamodule import SurrogateDataModule
from torch_geometric_flare.training.loggers import make_logger
from torch_geometric_flare.training.module import SurrogateModule
from torch_geometric_flare.training.point_parallel import PointParallelStrategy
from torch_geometric_flare.training.progress import EpochLines


def build_trainer(
    module: SurrogateModule,
    data: SurrogateDataModule,
    folder: str | Path,
    *,
    accelerator: str = "auto",
    devices: int = 1,
    strategy: str | Strategy = "auto",
    precision: str = "32-true",
    deterministic: bool = False,
    validate_every: int = 1,
    keep_best: bool = False,
    patience: int | None = None,
    logger: str | Logger | None = None,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> Trainer:
    """Build the Lightning trainer of a recipe.

    It clips gradients, averages the weights, seeds every epoch, writes `last.ckpt` at
    the end of each epoch, and logs to `metrics/version_*/metrics.csv`, each resumed
    part of the training in a version of its own. Beside it stands `hparams.yaml`, the
    recipe.

    Args:
        module: The training, with its recipe.
        data: The splits.
        folder: Where checkpoint and logs go.
        accelerator: `cpu`, `gpu` and so on, as Lightning names them.
        devices: Number of them. They take turns in the order of every epoch, shares
            made equal by repeating samples, and the batch size is that of one device.
            With a `PointParallelStrategy` all of this holds for each group of devices
            that share the points of a sample.
        strategy: How devices work together, as Lightning names it, or a strategy of
            Lightning's or a `PointParallelStrategy`; such an object serves one trainer.
        precision: Arithmetic, as Lightning names it.
        deterministic: Let the operations of a GPU be repeatable too, as on a CPU they
            are anyway; needed there for a resumed training to equal an uninterrupted
            one.
        validate_every: Epochs from one validation to the next.
        keep_best: Keep the checkpoint of the lowest `val_loss` as `best.ckpt`.
        patience: End the training when `val_loss` has not fallen in so many validations
            in a row; `None` for never.
        logger: Log elsewhere too: a logger of Lightning, or `"tensorboard"`, `"wandb"`
            or `"mlflow"`, which keep their files in `folder`.
        progress: Show a progress bar on a terminal, and print a line an epoch, at most
            every ten seconds, anywhere else.
        callbacks: Further callbacks.

    Raises:
        ValueError: If `devices`, `validate_every` or `patience` is below one,
            `keep_best` or `patience` is given without a validation split, there is no
            such `logger` or its package is not installed, `precision` is
            `16-true` on a CPU, or `data` has another batch size than the recipe. That
            of the recipe does not count where `data` limits the points of a batch
            alone.
    """
    if devices < 1 or validate_every < 1:
        raise ValueError(
            "devices and validate_every must be at least 1, got "
            f"devices={devices}, validate_every={validate_every}"
        )
    if patience is not None and patience < 1:
        raise ValueError(f"patience must be at least 1 or None, got {patience}")
    if data.val is None and (keep_best or patience is not None):
        raise ValueError(
            f"keep_best={keep_best} and patience={patience} need a validation split: "
            "pass val= to the data module"
        )
    folder = as_path(folder)
    recipe = module.recipe
    if data.batch_size not in (None, recipe.batch_size):
        raise ValueError(
            f"data has batch_size={data.batch_size} but the recipe has "
            f"{recipe.batch_size}: change one, by "
            "dataclasses.replace(recipe, batch_size=...)"
        )
    own: list[Callback] = [EpochSeed(data.seed), EpochCheckpoint(folder, keep_best)]
    if patience is not None:
        own.insert(0, LastingEarlyStopping("val_loss", patience=patience))
    loggers: list[Logger] = [
        CSVLogger(folder, name="metrics", flush_logs_every_n_steps=1)
    ]
    if logger is not None:
        named = make_logger(logger, folder) if isinstance(logger, str) else logger
        loggers.append(named)
    num_batches = -(-data.num_batches // _num_replicas(devices, strategy))
    num_steps = recipe.epochs * num_batches
    if recipe.max_steps is not None:
        num_steps = min(num_steps, recipe.max_steps)
    decay = scaled_ema_decay(recipe.ema_decay, num_steps)
    if decay > 0:
        # Buffers are copied, not averaged: rounding would move the normalisers.
        average = get_ema_multi_avg_fn(decay)  # one call for all parameters
        own.append(WeightAveraging(use_buffers=False, multi_avg_fn=average))
    bar = progress and sys.stdout.isatty()
    if bar:
        own.append(TQDMProgressBar(refresh_rate=max(1, num_batches // 20)))
    elif progress:
        own.append(EpochLines())
    trainer = Trainer(
        accelerator=accelerator,
        devices=devices,
        strategy=strategy,
        precision=precision,  # type: ignore[arg-type]
        deterministic=deterministic,
        max_epochs=recipe.epochs,
        max_steps=-1 if recipe.max_steps is None else recipe.max_steps,
        gradient_clip_val=recipe.gradient_clip,
        check_val_every_n_epoch=validate_every,
        limit_val_batches=None if data.val is not None else 0,
        num_sanity_val_steps=0,
        log_every_n_steps=min(50, num_batches),
        logger=loggers,
        callbacks=[*own, *callbacks],
        default_root_dir=folder,
        enable_progress_bar=bar,
        enable_model_summary=False,
    )
    if precision == "16-true" and isinstance(trainer.accelerator, CPUAccelerator):
        # AdamW's epsilon of 1e-8 rounds to zero there, so its steps divide by zero.
        raise ValueError(
            "precision='16-true' makes the first step on a CPU nan: take 'bf16-true', "
            "or '32-true', the default"
        )
    return trainer


def _num_replicas(devices: int, strategy: str | Strategy) -> int:
    """Count the devices, or groups of them, that get different samples."""
    if isinstance(strategy, PointParallelStrategy):
        # A number that does not divide is refused once the processes have met.
        return max(1, devices // strategy.processes_per_sample)
    return devices
