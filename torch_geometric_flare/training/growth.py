"""Growth of latents during training, including optimizer state and averages."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn
from torch.optim import Optimizer

from torch_geometric_flare.nn.growth import grow_in_place, latents_of


def grow_training(
    model: nn.Module,
    optimizer: Optimizer,
    factor: int,
    *,
    noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> None:
    r"""Repeat the latents of a network and their optimizer state in place.

    Each of the $k$ copies receives $1 / k$ of the gradient of the original latent.
    Adam's first moments are scaled by $1 / k$ and its second moments by $1 / k^2$, so
    that the length of the next steps does not change.

    Args:
        model: The network in training, see `nn.grow_latents`.
        optimizer: Its Adam, AdamW or `MuonAdamW`.
        factor: Number of copies of each latent.
        noise: See `nn.grow_latents`.
        generator: See `nn.grow_latents`.

    Raises:
        ValueError: See `nn.grow_latents`.
    """
    for latents in grow_in_place(model, factor, noise, generator):
        state = optimizer.state.get(latents, {})
        for name, power in (("exp_avg", 1), ("exp_avg_sq", 2)):
            if name in state:
                repeated = state[name].repeat_interleave(factor, dim=1)
                state[name] = repeated / factor**power


class GrowLatents(Callback):
    """Grows the latents of a `SurrogateModule` during its training, on one device.

    The averaged weights also grow, without noise. A training that is killed and resumed
    with the same schedule gives bitwise identical weights.

    Args:
        schedule: Number of latents per head from an epoch on, such as `{100: 64, 200:
            256}`. Each number must be a multiple of the preceding one.
        every: Unit of the schedule, `"epoch"` or `"step"` of the optimizer.
        noise: See `nn.grow_latents`. Without noise, the copies remain equal up to
            rounding.
        seed: Seed of the noise.

    Raises:
        ValueError: If the schedule is empty, has negative epochs or steps, or does not
            grow by integer factors; or, when the training starts, if it does not grow
            the network's latents by an integer factor, or the training uses several
            devices.
    """

    def __init__(
        self,
        schedule: Mapping[int, int],
        every: Literal["epoch", "step"] = "epoch",
        noise: float = 0.3,
        seed: int = 0,
    ) -> None:
        self.schedule = dict(sorted(schedule.items()))
        if every not in ("epoch", "step"):
            raise ValueError(f"every is {every!r}, expected 'epoch' or 'step'")
        if not self.schedule or min(self.schedule) < 0:
            raise ValueError(
                f"schedule is {schedule}, expected numbers of latents by epoch or step"
            )
        numbers = list(self.schedule.values())
        for before, after in zip(numbers, numbers[1:], strict=False):
            _factor(before, after, self.schedule)
        self.every = every
        self.noise = noise
        self.seed = seed

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the network and the trainer support the schedule."""
        if stage != TrainerFn.FITTING:
            return
        if trainer.world_size > 1:
            raise ValueError(
                f"GrowLatents supports one device, but devices={trainer.world_size}"
            )
        present = _num_latents(pl_module)
        _factor(present, next(iter(self.schedule.values())), self.schedule)

    def restore(self, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Grow the latents to those of a checkpoint before its weights are loaded.

        `SurrogateModule` calls this, because Lightning passes checkpoints to callbacks
        too late.

        Args:
            module: The training.
            checkpoint: The checkpoint from which it resumes.

        Raises:
            ValueError: If the number of latents cannot grow to that of the checkpoint.
        """
        present = _num_latents(module)
        number = checkpoint.get("num_latents", present)
        if number != present:
            factor = _factor(present, number, self.schedule)
            grow_in_place(module, factor)
            _grow_averages(module.trainer, factor)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Grow the latents if the schedule requires more."""
        now = trainer.current_epoch if self.every == "epoch" else trainer.global_step
        wanted = [number for start, number in self.schedule.items() if start <= now]
        present = _num_latents(pl_module)
        if not wanted or wanted[-1] == present:
            return
        factor = _factor(present, wanted[-1], self.schedule)
        generator = torch.Generator().manual_seed(self.seed + wanted[-1])
        grow_training(
            pl_module,
            trainer.optimizers[0],
            factor,
            noise=self.noise,
            generator=generator,
        )
        _grow_averages(trainer, factor)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the number of latents for `restore`."""
        checkpoint["num_latents"] = _num_latents(pl_module)


def _num_latents(model: nn.Module) -> int:
    """Return the number of latents per head.

    Raises:
        ValueError: If they differ between layers.
    """
    numbers = {latents.size(1) for latents in latents_of(model)}
    if len(numbers) > 1:
        raise ValueError(
            f"layers have {sorted(numbers)} latents: a schedule needs layers with "
            "equal numbers"
        )
    return numbers.pop()


def _factor(before: int, after: int, schedule: Mapping[int, int]) -> int:
    if after < before or after % before:
        raise ValueError(
            f"schedule is {schedule}, but {before} latents cannot grow to {after}: "
            "each number must be a multiple of the preceding one"
        )
    return after // before


def _grow_averages(trainer: Trainer, factor: int) -> None:
    """Grow the averaged weights of callbacks of the trainer."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        average = getattr(callback, "_average_model", None)
        if isinstance(callback, WeightAveraging) and average is not None:
            grow_in_place(average, factor)
