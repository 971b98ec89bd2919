"""Errors of predicted force coefficients over the meshes that bring a truth."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import torch

from torch_geometric_flare.experiments.quantity_errors import quantity_errors

ForceRow = dict[str, str | float]
"""The mesh, the source (`predicted` or `truth`), and each coefficient by its name."""
_LABELS = ("mesh", "source", "values_left_out")


def force_errors(
    rows: Sequence[ForceRow], training_means: Mapping[str, float]
) -> list[dict[str, str | float | None]]:
    """Return the errors of each coefficient over the meshes with a truth.

    Args:
        rows: Coefficients, predicted and, of meshes with a truth, true.
        training_means: Mean coefficients of the training meshes by name, where known.

    Returns:
        One row per coefficient: its name, the number of meshes, and the errors by the
        names of `QuantityErrors`; none without a mesh that has a truth.
    """
    predicted, true = (
        {row["mesh"]: row for row in rows if row["source"] == source}
        for source in ("predicted", "truth")
    )
    if not true:
        return []
    table = []
    for name in (name for name in rows[0] if name not in _LABELS):
        values, truths = (
            torch.tensor([float(side[mesh][name]) for mesh in true])
            for side in (predicted, true)
        )
        errors = asdict(quantity_errors(values, truths, training_means.get(name)))
        worst = list(true)[errors.pop("worst_sample")]
        table.append(
            {"coefficient": name, "meshes": len(true), **errors, "worst_mesh": worst}
        )
    return table
