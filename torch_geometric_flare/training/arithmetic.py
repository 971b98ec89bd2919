"""What decides the bits of a result beside data, model and recipe."""

from typing import Any

import torch
from lightning.pytorch import Trainer


def describe_arithmetic(trainer: Trainer) -> dict[str, Any]:
    """Describe precision, devices and algorithms of a training in plain values.

    A training resumed by another arithmetic would not give the bits of an uninterrupted
    one. Threads do not count.

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
