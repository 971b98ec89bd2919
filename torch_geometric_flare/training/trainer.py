"""Build the Lightning trainer of a recipe and train a surrogate."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.strategies import Strategy

from torch_geometric_flare._arguments import as_path, check_integers, check_kind
from torch_geometric_flare._random import keep_random_state
from torch_geometric_flare.surrogates import Surrogate, load_surrogate
from torch_geometric_flare.surrogates.checkpoint import read_checkpoint
from torch_geometric_flare.training.callbacks import (
    AveragedWeights,
    EpochBar,
    EpochCheckpoint,
    EpochLogger,
    EpochSeed,
    ResumableEarlyStopping,
    scaled_ema_decay,
)
from torch_geometric_flare.training.datamodule import SurrogateDataModule
from torch_geometric_flare.training.module import SurrogateModule
from torch_geometric_flare.training.point_parallel import PointParallelStrategy
from torch_geometric_flare.training.quiet import quiet_lightning
from torch_geometric_flare.training.run_folder import lock_folder


@dataclass(frozen=True)
class TrainerConfig:
    """Settings of a training run: devices, precision, validation and logs.

    `fit` and `build_trainer` take it; `fit` also takes its fields as keywords. The
    hyperparameters and the number of epochs are in the `Recipe` of the module.

    Args:
        accelerator: Lightning's name of the accelerator, such as `cpu` or `gpu`.
        devices: Number of devices. They take the samples of each epoch in turn, and
            samples are repeated to give all devices the same number; the batch size is
            per device. With a `PointParallelStrategy` this applies to each group of
            devices that share the points of a sample.
        strategy: Lightning's name of a strategy, a Lightning strategy or a
            `PointParallelStrategy`; an object can be used for only one trainer.
        precision: Lightning's name of the precision.
        deterministic: Use deterministic operations on a GPU (on a CPU they always are);
            without it a resumed training on a GPU differs from an uninterrupted one.
        validate_every: Number of epochs between validations.
        keep_best: Keep the checkpoint with the lowest `val_loss` as `best.ckpt`, in
            addition to `last.ckpt`.
        patience: Stop training when `val_loss` has not decreased in this many
            consecutive validations; `None` for never.
        logger: One or several Lightning loggers in addition to the CSV file.
        progress: Show a progress bar on a terminal; elsewhere print one line per
            epoch, at most every ten seconds.

    Raises:
        TypeError: If `logger` is neither a logger nor a sequence of loggers, or a
            number is not an integer.
        ValueError: If `devices`, `validate_every` or `patience` is below one.
    """

    accelerator: str = "auto"
    devices: int = 1
    strategy: str | Strategy = "auto"
    precision: str = "32-true"
    deterministic: bool = False
    validate_every: int = 1
    keep_best: bool = False
    patience: int | None = None
    logger: Logger | Sequence[Logger] | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        check_integers(1, devices=self.devices, validate_every=self.validate_every)
        if self.patience is not None:
            check_integers(1, patience=self.patience)
        for logger in self.loggers:
            check_kind(
                Logger,
                "a logger of Lightning or a list of them, such as "
                "lightning.pytorch.loggers.TensorBoardLogger(folder)",
                logger=logger,
            )

    @property
    def loggers(self) -> tuple[Logger, ...]:
        """The loggers in addition to the CSV file."""
        if self.logger is None:
            return ()
        is_many = isinstance(self.logger, Sequence) and not isinstance(self.logger, str)
        return tuple(self.logger) if is_many else (self.logger,)  # type: ignore[return-value, arg-type]

    @property
    def num_replicas(self) -> int:
        """Number of devices, or groups of devices, that get different samples."""
        if isinstance(self.strategy, PointParallelStrategy):
            # The strategy rejects a number that does not divide when it starts.
            return max(1, self.devices // self.strategy.processes_per_sample)
        return self.devices


def build_trainer(
    module: SurrogateModule,
    data: SurrogateDataModule,
    folder: str | Path,
    config: TrainerConfig | None = None,
    callbacks: Sequence[Callback] = (),
) -> Trainer:
    """Build the Lightning trainer of a recipe.

    It clips gradients, averages the weights, seeds every epoch, writes `last.ckpt` at
    the end of each epoch, and logs to `metrics/version_*/metrics.csv`, with a new
    version for each resume. `hparams.yaml` in the same folder holds the recipe.

    Args:
        module: The module to train, with its recipe.
        data: The splits.
        folder: Folder for checkpoints and logs.
        config: Settings of the run; by default `TrainerConfig()`.
        callbacks: Further callbacks.

    Raises:
        ValueError: If the config sets `keep_best` or `patience` without a validation
            split, `keep_best` with fewer epochs than `validate_every`, or `16-true` on
            a CPU, or the batch sizes of `data` and the recipe differ. The recipe's
            batch size is ignored if `data` limits only the points of a batch.
    """
    config = TrainerConfig() if config is None else config
    if data.val is None and (config.keep_best or config.patience is not None):
        raise ValueError(
            f"keep_best={config.keep_best} and patience={config.patience} need a "
            "validation split: pass val= to the data module"
        )
    folder = as_path(folder)
    recipe = module.recipe
    if config.keep_best and config.validate_every > recipe.epochs:
        raise ValueError(
            f"keep_best needs a validation, but validate_every={config.validate_every} "
            f"and the recipe has epochs={recipe.epochs}: validate more often"
        )
    if data.batch_size not in (None, recipe.batch_size):
        raise ValueError(
            f"data has batch_size={data.batch_size} but the recipe has "
            f"{recipe.batch_size}: change one, by "
            "dataclasses.replace(recipe, batch_size=...)"
        )
    num_batches = -(-data.num_batches // config.num_replicas)
    bar = config.progress and sys.stdout.isatty()
    trainer = Trainer(
        accelerator=config.accelerator,
        devices=config.devices,
        strategy=config.strategy,
        precision=config.precision,  # type: ignore[arg-type]
        deterministic=config.deterministic,
        max_epochs=recipe.epochs,
        max_steps=-1 if recipe.max_steps is None else recipe.max_steps,
        gradient_clip_val=recipe.gradient_clip,
        check_val_every_n_epoch=config.validate_every,
        limit_val_batches=None if data.val is not None else 0,
        num_sanity_val_steps=0,
        log_every_n_steps=min(50, num_batches),
        logger=[
            CSVLogger(folder, name="metrics", flush_logs_every_n_steps=1),
            *config.loggers,
        ],
        callbacks=[
            *_own_callbacks(module, data, folder, config, num_batches, bar),
            *callbacks,
        ],
        default_root_dir=folder,
        enable_progress_bar=bar,
        enable_model_summary=False,
    )
    on_cpu = isinstance(trainer.accelerator, CPUAccelerator)
    if config.precision == "16-true" and on_cpu:
        # AdamW's epsilon of 1e-8 rounds to zero in float16, so it divides by zero.
        raise ValueError(
            "precision='16-true' makes the first step on a CPU nan: take 'bf16-true', "
            "or '32-true', the default"
        )
    return trainer


def _own_callbacks(
    module: SurrogateModule,
    data: SurrogateDataModule,
    folder: Path,
    config: TrainerConfig,
    num_batches: int,
    bar: bool,
) -> list[Callback]:
    """Return the callbacks for seeds, stopping, checkpoints, averaging and progress."""
    recipe = module.recipe
    own: list[Callback] = []
    if config.patience is not None:
        own.append(ResumableEarlyStopping("val_loss", patience=config.patience))
    own += [EpochSeed(data.seed), EpochCheckpoint(folder, config.keep_best)]
    num_steps = recipe.epochs * num_batches
    if recipe.max_steps is not None:
        num_steps = min(num_steps, recipe.max_steps)
    decay = scaled_ema_decay(recipe.ema_decay, num_steps)
    if decay > 0:
        own.append(AveragedWeights(decay))
    if bar:
        own.append(EpochBar(refresh_rate=max(1, num_batches // 20)))
    elif config.progress:
        own.append(EpochLogger())
    return own


def fit(
    module: SurrogateModule,
    data: SurrogateDataModule,
    folder: str | Path,
    config: TrainerConfig | None = None,
    *,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
    **options: Any,
) -> Surrogate:
    """Train a surrogate, or resume a training that was killed.

    A training that was killed at any time and resumed gives weights that are bitwise
    equal to those of an uninterrupted one (on a GPU, with `deterministic`; on a CPU,
    with the same number of threads): order, augmentation and random numbers of an epoch
    depend only on the seed of `data` and on the epoch, and an unfinished epoch starts
    again. The caller initializes the weights: seed them with `torch.manual_seed`. The
    random states of the caller (torch, numpy and `random`) do not change.

    With several devices the first process writes the files, and every process returns
    the surrogate of its checkpoint.

    During training the folder is locked: a second call for the same folder, in this or
    another process, raises an error. The lock ends when its process ends.

    Args:
        module: The module to train, with its recipe.
        data: The splits.
        folder: Folder for checkpoints and logs; `~` is the home folder.
        config: Settings of the run; by default `TrainerConfig()`.
        resume: Resume from `last.ckpt` in `folder`; start from scratch if there is
            none.
        callbacks: Further callbacks.
        **options: Fields of `TrainerConfig` that replace those of `config`, such as
            `accelerator="cpu"`, `precision="bf16-mixed"` or `patience=3`.

    Returns:
        The surrogate of `last.ckpt`, or of `best.ckpt` with `keep_best`, with averaged
        weights, on the CPU.

    Raises:
        FileExistsError: If `folder` holds a checkpoint and `resume` is not set.
        ValueError: If `TrainerConfig` or `build_trainer` rejects an argument; if
            `folder` is a file; if another training uses the folder; if the checkpoint
            is damaged or belongs to another recipe, model, precision, number of devices
            or other data; or if the samples lack a field.
        TypeError: If an option is not a field of `TrainerConfig`.
        RuntimeError: If the loss is not finite.
        SystemExit: With status 143, after the current batch, if the process receives
            SIGTERM.
    """
    config = replace(TrainerConfig() if config is None else config, **options)
    folder = as_path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"folder={str(folder)!r} is a file: name a folder")
    module.train()  # A prediction may have left it in evaluation mode.
    with (
        # Whatever the caller's gradient mode.
        torch.inference_mode(False),
        torch.enable_grad(),
        keep_random_state(),
        quiet_lightning(),
        ExitStack() as stack,
    ):
        trainer = build_trainer(module, data, folder, config, callbacks)
        stack.enter_context(_default_device(trainer))
        # The first process holds the lock for all processes of the training.
        with lock_folder(folder) if trainer.is_global_zero else nullcontext():
            checkpoint = _find_checkpoint(folder, resume)
            trainer.fit(
                module, datamodule=data, ckpt_path=checkpoint, weights_only=True
            )
            # If the folder name contains the time, only the first process's folder
            # has the file.
            name = "best.ckpt" if config.keep_best else "last.ckpt"
            written = trainer.strategy.broadcast(folder / name)
            if config.keep_best and not written.exists():
                raise ValueError(
                    f"{str(folder)!r} holds no best.ckpt: the training had ended "
                    "without keep_best, or no val_loss was finite"
                )
            return load_surrogate(written, module.surrogate.model)


def _default_device(trainer: Trainer) -> AbstractContextManager[Any]:
    """Make torch's default device that of a training on the CPU.

    Lightning and the optimizer would create numbers on another default device.
    """
    on_cpu = isinstance(trainer.accelerator, CPUAccelerator)
    if on_cpu and torch.get_default_device().type != "cpu":
        return torch.device("cpu")
    return nullcontext()


def _find_checkpoint(folder: Path, resume: bool) -> Path | None:
    """Return the checkpoint to resume from; `None` to start from scratch."""
    checkpoint = folder / "last.ckpt"
    if not checkpoint.exists():
        return None
    if not resume:
        raise FileExistsError(
            f"folder={str(folder)!r} holds the checkpoint of a training: pass "
            "resume=True to carry on, or choose another folder"
        )
    try:
        read_checkpoint(checkpoint)
    except ValueError as error:
        raise ValueError(
            f"nothing to resume from: {error}; start a training in another folder"
        ) from error
    return checkpoint
