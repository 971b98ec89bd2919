"""The learning rate over the steps of a training."""

import math
import warnings
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from torch_geometric_flare.recipes import Recipe


def build_schedule(optimizer: Optimizer, recipe: Recipe, num_steps: int) -> OneCycleLR:
    """Return the one-cycle schedule of a recipe.

    Args:
        optimizer: The optimizer, with its peak learning rates.
        recipe: The hyperparameters.
        num_steps: Number of steps of the training, see `count_steps`.
    """
    return OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=num_steps,
        pct_start=max(recipe.pct_start, 2 / num_steps),
        div_factor=recipe.div_factor,
        final_div_factor=recipe.final_div_factor,
        cycle_momentum=recipe.cycle_momentum,
    )


def continue_schedule(schedule: Any, saved_steps: int | None) -> None:
    """Set the learning rate of a resumed training if its length has changed.

    Args:
        schedule: A schedule, at the step of the checkpoint.
        saved_steps: Length of the checkpoint's schedule, if known.

    Raises:
        ValueError: If the training has ended before this step.

    Warns:
        UserWarning: If the lengths differ.
    """
    num_steps = getattr(schedule, "total_steps", None)
    if saved_steps is None or num_steps is None or num_steps == saved_steps:
        return
    if schedule.last_epoch >= num_steps:
        raise ValueError(
            f"the checkpoint has made {schedule.last_epoch} steps, but max_epochs and "
            f"max_steps end this training after {num_steps}: raise them"
        )
    schedule.last_epoch -= 1
    schedule.step()  # repeat the step on the new schedule
    rate = schedule.get_last_lr()[0]
    warnings.warn(
        f"the checkpoint's learning rate was scheduled over {saved_steps} steps, this "
        f"training has {num_steps}: it goes on with a rate of {rate:.3g}",
        stacklevel=3,
    )


def count_steps(trainer: Trainer) -> int:
    """Return the number of steps of a training for its schedule.

    Args:
        trainer: The trainer, in `fit`.

    Raises:
        ValueError: If it does not determine the number.
    """
    estimate = trainer.estimated_stepping_batches
    if not 0 <= estimate < math.inf:
        raise ValueError(
            "the learning rate is scheduled over all steps of a training, but "
            f"max_epochs={trainer.max_epochs} and max_steps={trainer.max_steps} do not "
            "tell how many these are: give the Trainer max_steps (a max_time may end "
            "it earlier), or for batches of known number max_epochs"
        )
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, GradientAccumulationScheduler):
            estimate = _accumulated_steps(trainer, callback, estimate)
    # OneCycleLR divides by the length of each phase minus one step.
    return max(4, int(estimate))


def _accumulated_steps(
    trainer: Trainer, callback: GradientAccumulationScheduler, most: float
) -> float:
    """Return the number of steps under scheduled gradient accumulation."""
    batches, epochs = trainer.num_training_batches, trainer.max_epochs
    if epochs is None or epochs < 0 or batches == math.inf:
        return most
    factors = map(callback.get_accumulate_grad_batches, range(epochs))
    return min(most, sum(math.ceil(batches / factor) for factor in factors))
