"""What a resumed training must find unchanged, to give equal bits."""

from typing import Any

import torch
from lightning.pytorch import Trainer


def describe_arithmetic(trainer: Trainer) -> dict[str, Any]:
    """Describe precision, devices and algorithms of a training in plain values.

    A training resumed by another arithmetic would not give the bits of an uninterrupted
    one. Neither would another number of threads, which is not described, as machines
    differ in it.

    Args:
        trainer: The trainer, connected to its strategy.

    Returns:
        `precision` as Lightning names it; `matmul_precision` as torch does; `device`,
        such as `"cuda"`; `deterministic`; `processes`; `processes_per_sample`.
    """
    return {
        "precision": str(trainer.precision),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "device": trainer.strategy.root_device.type,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "processes": trainer.world_size,
        "processes_per_sample": getattr(trainer.strategy, "processes_per_sample", 1),
    }


def check_same(theirs: Any, ours: Any, what: str) -> None:
    """Refuse to resume where checkpoint and training differ.

    Args:
        theirs: What the checkpoint says, in plain values.
        ours: What this training says.
        what: What both describe, for the message.

    Raises:
        ValueError: If they differ; the message tells the differences.
    """
    changed = _differences(theirs, ours)
    if changed:
        raise ValueError(
            f"the checkpoint was trained with another {what}; (checkpoint, now): "
            f"{changed}: resume with the same {what}, or start a training in another "
            "folder"
        )


def _differences(theirs: Any, ours: Any) -> Any:
    """Return pairs of what differs, by name in dictionaries; None where all agree."""
    if theirs == ours:
        return None
    if not isinstance(theirs, dict) or not isinstance(ours, dict):
        return (theirs, ours)
    return {
        name: (theirs.get(name), ours.get(name))
        for name in sorted({*theirs, *ours})
        if theirs.get(name) != ours.get(name)
    }
