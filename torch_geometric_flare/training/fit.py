"""One call that trains a surrogate."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import Strategy

from torch_geometric_flare._arguments import as_path
from torch_geometric_flare._random import keep_random_state
from torch_geometric_flare.surrogates import Surrogate, load_surrogate
from torch_geometric_flare.surrogates.checkpoint import read_checkpoint
from torch_geometric_flare.training.datamodule import SurrogateDataModule
from torch_geometric_flare.training.folder_lock import lock_folder
from torch_geometric_flare.training.module import SurrogateModule
from torch_geometric_flare.training.quiet import quiet_lightning
from torch_geometric_flare.training.trainer import build_trainer


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
    keep_best: bool = False,
    patience: int | None = None,
    logger: str | Logger | None = None,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> Surrogate:
    """Train a surrogate, or carry on where a killed training stopped.

    A training that was killed at any moment and resumed gives, bit by bit, the weights
    of an uninterrupted one (on a GPU, with `deterministic`; on a CPU, with as many
    threads): order, augmentation and
    random numbers of an epoch depend on the seed of `data` and on the epoch alone, and
    an unfinished epoch starts again. The initial weights are the caller's: seed them
    with `torch.manual_seed`. The random numbers of the caller (of torch, numpy and
    `random`) go on after the training as if there had been none.

    With several devices the first process writes the files, and every process returns
    the surrogate of its checkpoint.

    While it runs, the folder is locked: a second call for the same folder, in this or
    another process, is refused. The lock ends with its process, however that ends.

    Args:
        module: The training, with its recipe.
        data: The splits.
        folder: Where checkpoint and logs go; `~` is the home folder.
        resume: Carry on from `last.ckpt` in `folder`; start anew if there is none.
        accelerator: See `build_trainer`, as for all that follow.
        devices: Number of them.
        strategy: How they work together.
        precision: Arithmetic.
        deterministic: Repeatable operations on a GPU.
        validate_every: Epochs from one validation to the next.
        keep_best: Keep the checkpoint of the lowest `val_loss` as `best.ckpt`, beside
            `last.ckpt`, and return it.
        patience: Validations without a lower `val_loss` that end the training.
        logger: Where to log too, beside the CSV file.
        progress: Show a progress bar on a terminal, and print a line an epoch, at most
            every ten seconds, anywhere else.
        callbacks: Further callbacks.

    Returns:
        The surrogate of `last.ckpt`, or with `keep_best` of `best.ckpt`, with averaged
        weights, on the CPU.

    Raises:
        FileExistsError: If `folder` holds a checkpoint and `resume` is not set.
        ValueError: If `build_trainer` refuses an argument; if another training uses the
            folder; if the checkpoint is damaged or was trained with another recipe,
            model, precision, on other devices or other data; or if the samples lack a
            field.
        RuntimeError: If the loss is not finite.
        SystemExit: With status 143, after the batch at hand, where the process gets
            SIGTERM.
    """
    folder = as_path(folder)
    module.train()  # An earlier prediction has left it in evaluation mode.
    with keep_random_state(), quiet_lightning():
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
            keep_best=keep_best,
            patience=patience,
            logger=logger,
            progress=progress,
            callbacks=callbacks,
        )
        # The first process locks for all that train together.
        with lock_folder(folder) if trainer.is_global_zero else nullcontext():
            checkpoint = _find_checkpoint(Path(folder), resume)
            trainer.fit(
                module, datamodule=data, ckpt_path=checkpoint, weights_only=True
            )
            # Where a folder is named by the time, only that of the first process has
            # the file.
            name = "best.ckpt" if keep_best else "last.ckpt"
            written = trainer.strategy.broadcast(Path(folder) / name)
            if keep_best and not written.exists():
                raise ValueError(
                    f"{str(folder)!r} holds no best.ckpt: the training had ended "
                    "without keep_best, or no val_loss was finite"
                )
            return load_surrogate(written, module.surrogate.model)


def _find_checkpoint(folder: Path, resume: bool) -> Path | None:
    """Return the checkpoint to carry on from, `None` to start anew."""
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
