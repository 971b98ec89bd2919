"""One call that trains a surrogate, and one that measures it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import EMAWeightAveraging, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import DoublePrecision
from lightning.pytorch.strategies import Strategy
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from torch_geometric_flare.metrics import relative_l2
from torch_geometric_flare.training.callbacks import (
    EpochCheckpoint,
    EpochSeed,
    scaled_ema_decay,
)
from torch_geometric_flare.training.checkpoint import load_surrogate, read_checkpoint
from torch_geometric_flare.training.datamodule import SurrogateDataModule
from torch_geometric_flare.training.module import SurrogateModule
from torch_geometric_flare.training.point_parallel import PointParallelStrategy
from torch_geometric_flare.training.quiet import quiet_lightning
from torch_geometric_flare.training.surrogate import Surrogate


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
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> Trainer:
    """The Lightning trainer of a recipe.

    It clips gradients, averages the weights, seeds every epoch, writes `last.ckpt` at
    the end of each epoch, and logs to `metrics/version_*/metrics.csv`, each resumed
    part of the training in a version of its own.

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
        progress: Show a progress bar.
        callbacks: Further callbacks.

    Raises:
        ValueError: If `devices` or `validate_every` is below one, `precision` is
            `16-true` on a CPU, or `data` has another batch size than the recipe. That
            of the recipe does not count where `data` limits the points of a batch
            alone.
    """
    if devices < 1 or validate_every < 1:
        raise ValueError(
            "devices and validate_every must be at least 1, got "
            f"devices={devices}, validate_every={validate_every}"
        )
    recipe = module.recipe
    if data.batch_size not in (None, recipe.batch_size):
        raise ValueError(
            f"data has batch_size={data.batch_size} but the recipe has "
            f"{recipe.batch_size}: change one, by "
            "dataclasses.replace(recipe, batch_size=...)"
        )
    own: list[Callback] = [EpochSeed(data.seed), EpochCheckpoint(folder)]
    num_batches = -(-data.num_batches // _num_replicas(devices, strategy))
    decay = scaled_ema_decay(recipe.ema_decay, recipe.epochs * num_batches)
    if decay > 0:
        # Buffers are copied, not averaged: rounding would move the normalisers.
        own.append(EMAWeightAveraging(decay=decay, use_buffers=False))
    if progress:
        own.append(TQDMProgressBar(refresh_rate=max(1, num_batches // 20)))
    plugins: list[Any] = []
    if precision == "64-true" and isinstance(strategy, PointParallelStrategy):
        # By that name Lightning refuses it to the class of weights that are themselves
        # distributed; here every process holds all of them.
        plugins.append(DoublePrecision())
    trainer = Trainer(
        accelerator=accelerator,
        devices=devices,
        strategy=strategy,
        precision=None if plugins else precision,  # type: ignore[arg-type]
        plugins=plugins,
        deterministic=deterministic,
        max_epochs=recipe.epochs,
        gradient_clip_val=recipe.gradient_clip,
        check_val_every_n_epoch=validate_every,
        limit_val_batches=None if data.val is not None else 0,
        num_sanity_val_steps=0,
        log_every_n_steps=min(50, num_batches),
        logger=CSVLogger(folder, name="metrics", flush_logs_every_n_steps=1),
        callbacks=[*own, *callbacks],
        default_root_dir=folder,
        enable_progress_bar=progress,
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
    """How many devices, or groups of them, get different samples."""
    if isinstance(strategy, PointParallelStrategy):
        # A number that does not divide is refused once the processes have met.
        return max(1, devices // strategy.processes_per_sample)
    return devices


def fit(
    module: SurrogateModule,
    data: SurrogateDataModule,
    folder: str | Path,
    *,
    resume: bool = False,
    accelerator: str = "auto",
    devices: int = 1,
    strategy: str | Strategy = "auto",
    precision: str = "32-true",
    deterministic: bool = False,
    validate_every: int = 1,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> Surrogate:
    """Train a surrogate, or carry on where a killed training stopped.

    A training that was killed at any moment and resumed gives, bit by bit, the weights
    of an uninterrupted one (on a GPU, with `deterministic`): order, augmentation and
    random numbers of an epoch depend on the seed of `data` and on the epoch alone, and
    an unfinished epoch starts again. The initial weights are the caller's: seed them
    with `torch.manual_seed`.

    With several devices the first process writes the files, and every process returns
    the surrogate of its checkpoint.

    Args:
        module: The training, with its recipe.
        data: The splits.
        folder: Where checkpoint and logs go.
        resume: Carry on from `last.ckpt` in `folder`; start anew if there is none.
        accelerator: See `build_trainer`, as for all that follow.
        devices: Number of them.
        strategy: How they work together.
        precision: Arithmetic.
        deterministic: Repeatable operations on a GPU.
        validate_every: Epochs from one validation to the next.
        progress: Show a progress bar.
        callbacks: Further callbacks.

    Returns:
        The surrogate of `last.ckpt`, with averaged weights, on the CPU.

    Raises:
        FileExistsError: If `folder` holds a checkpoint and `resume` is not set.
        ValueError: If the checkpoint is damaged or was trained with another recipe,
            model or other data, or the samples lack a field.
        RuntimeError: If the loss is not finite.
    """
    checkpoint = Path(folder) / "last.ckpt"
    if checkpoint.exists() and not resume:
        raise FileExistsError(
            f"folder={str(folder)!r} holds the checkpoint of a training: pass "
            "resume=True to carry on, or choose another folder"
        )
    if checkpoint.exists():
        try:
            read_checkpoint(checkpoint)
        except ValueError as error:
            raise ValueError(
                f"nothing to resume from: {error}; start a training in another folder"
            ) from error
    module.train()  # An earlier prediction has left it in evaluation mode.
    with quiet_lightning():
        trainer = build_trainer(
            module,
            data,
            folder,
            accelerator=accelerator,
            devices=devices,
            strategy=strategy,
            precision=precision,
            deterministic=deterministic,
            validate_every=validate_every,
            progress=progress,
            callbacks=callbacks,
        )
        trainer.fit(
            module,
            datamodule=data,
            ckpt_path=checkpoint if checkpoint.exists() else None,
            weights_only=True,
        )
    # Where a folder is named by the time, only that of the first process has the file.
    checkpoint = trainer.strategy.broadcast(checkpoint)
    return load_surrogate(checkpoint, module.surrogate.model)


def evaluate(
    surrogate: Surrogate, dataset: Sequence[Data], batch_size: int = 1
) -> Tensor:
    """The relative error of each sample.

    Args:
        surrogate: A trained surrogate.
        dataset: Samples with their true field `y`.
        batch_size: Samples predicted at once.

    Returns:
        One relative $L_2$ error a sample, in the order of `dataset`, on the CPU.

    Raises:
        ValueError: If `dataset` is empty or a field is missing.
    """
    if len(dataset) == 0:
        raise ValueError("dataset is empty: pass at least one sample")
    device = surrogate.target_normalizer.shift.device
    errors = []
    for batch in DataLoader(dataset, batch_size=batch_size):
        batch = batch.to(device)
        prediction = surrogate.predict(batch)
        errors.append(relative_l2(prediction, batch.y, batch.batch, batch.num_graphs))
    return torch.cat(errors).cpu()
