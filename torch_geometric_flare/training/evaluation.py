"""The errors of a surrogate on a data set."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from torch_geometric_flare.surrogates import Surrogate
from torch_geometric_flare.training.errors import errors_per_field, mean_over_fields


def evaluate(
    surrogate: Surrogate, dataset: Sequence[Data], batch_size: int = 1
) -> Tensor:
    """Return the relative error of each sample.

    Args:
        surrogate: A trained surrogate.
        dataset: Samples with their true fields `y`.
        batch_size: Samples predicted at once.

    Returns:
        One relative $L_2$ error per sample, the mean over the fields, in the order of
        `dataset`, on the CPU.

    Raises:
        ValueError: If `dataset` is empty or a field is missing.
    """
    return mean_over_fields(evaluate_per_field(surrogate, dataset, batch_size))


def evaluate_per_field(
    surrogate: Surrogate, dataset: Sequence[Data], batch_size: int = 1
) -> dict[str, Tensor]:
    """Return the relative error of each field of each sample.

    Args:
        surrogate: A trained surrogate.
        dataset: Samples with their true fields `y`.
        batch_size: Samples predicted at once.

    Returns:
        By the name of the field, one relative $L_2$ error per sample, in the order of
        `dataset`, on the CPU.

    Raises:
        ValueError: If `dataset` is empty or a field is missing.
    """
    if len(dataset) == 0:
        raise ValueError("dataset is empty: pass at least one sample")
    device = surrogate.target_normalizer.shift.device
    errors: dict[str, list[Tensor]] = {field.name: [] for field in surrogate.fields}
    # Without a generator of its own, a loader draws a seed from the global one.
    loader = DataLoader(dataset, batch_size=batch_size, generator=torch.Generator())
    for batch in loader:
        batch = batch.to(device)
        prediction = surrogate.predict(batch)
        found = errors_per_field(prediction, batch, surrogate.fields)
        for name, error in found.items():
            errors[name].append(error.cpu())
    return {name: torch.cat(parts) for name, parts in errors.items()}
