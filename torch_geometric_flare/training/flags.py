"""Warnings about samples with absolute errors or missing values."""

import warnings
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from torch_geometric_flare._finite import find_gaps
from torch_geometric_flare._precision import LARGEST_OFFSET
from torch_geometric_flare.fields import Fields, channel_slices
from torch_geometric_flare.training.errors import graphs_of
from torch_geometric_flare.transforms import Normalizer

NUMBER = "number_in_split"
"""Attribute with the index of a sample in its split, set by the data module.

It is $-1 - i$ for a repetition of sample $i$, which gives all processes the same number
of batches.
"""

_MOST_NAMED = 5


def warn_absolute(
    samples: Mapping[str, Sequence[int]], scale: Mapping[str, Tensor]
) -> None:
    """Warn that samples have an absolute error because a field is zero.

    Args:
        samples: Indices of the samples in their data set, by name of the field.
        scale: Unit of the error in each channel, by name of the field.
    """
    for name, numbers in samples.items():
        if numbers:
            unit = ", ".join(f"{value:g}" for value in scale[name].flatten().tolist())
            warnings.warn(
                f"field {name!r} is zero at every point of {name_samples(numbers)}: "
                f"the error there is absolute, in units of the scale {unit}",
                stacklevel=3,
            )


def warn_offsets(fields: Fields, normalizer: Normalizer) -> None:
    """Warn of fields that vary little about a large mean.

    Args:
        fields: Names and channels of the fields.
        normalizer: Their mean and deviation.
    """
    for name, columns in channel_slices(fields).items():
        shift, scale = normalizer.shift[columns], normalizer.scale[columns]
        # A scale of exactly 1 is that of a constant channel.
        if bool(((shift.abs() > LARGEST_OFFSET * scale) & (scale != 1)).all()):
            mean, deviation = shift[0].item(), scale[0].item()
            warnings.warn(
                f"field {name!r} varies by {deviation:.3g} about {mean:.6g}: a "
                f"constant has a relative error of only {deviation / abs(mean):.2g}, "
                "so the field hardly contributes to the loss. Train on the difference "
                "from a reference value",
                stacklevel=4,
            )


def warn_gaps(gaps: Mapping[str, Mapping[int, int]]) -> None:
    """Warn that points without a finite true value are ignored in the errors.

    Args:
        gaps: Number of such points of each sample, by name of the field.
    """
    for name, counts in gaps.items():
        if counts:
            warnings.warn(
                f"field {name!r} has {sum(counts.values())} values that are not finite "
                f"in {name_samples(list(counts))}: they are left out of the errors",
                stacklevel=3,
            )


def count_gaps(data: Data, fields: Fields) -> dict[str, list[int]]:
    """Count the points without a finite true value per graph, by name of the field."""
    missing = ~data.y.isfinite()
    if not bool(missing.any()):
        return {}
    batch, num_graphs = graphs_of(data)
    if batch is None:
        batch = torch.zeros(len(missing), dtype=torch.long, device=missing.device)
    return {
        name: batch[missing[:, columns].any(1)].bincount(minlength=num_graphs).tolist()
        for name, columns in channel_slices(fields).items()
    }


def describe_batch_gaps(batch: Data, stage: str, ignore: Collection[str] = ()) -> str:
    """Describe values that are not finite in the first sample that has any.

    Args:
        batch: A sample or a batch.
        stage: Name of its split.
        ignore: Names of arrays that do not count.

    Returns:
        The text; empty if all values are finite.
    """
    if not (gaps := find_gaps(batch, ignore)):
        return ""
    if batch.get("group") is not None:  # a part of the points, which cannot be split
        numbers = numbers_of(batch, range(graphs_of(batch)[1]))
        return f"{gaps} in {name_samples(numbers)} of {stage}" if numbers else gaps
    samples = batch.to_data_list() if isinstance(batch, Batch) else [batch]
    for graph, sample in enumerate(samples):
        if gaps := find_gaps(sample, ignore):
            numbers = numbers_of(batch, [graph])
            return f"{gaps} in sample {numbers[0]} of {stage}" if numbers else gaps
    return ""


def numbers_of(data: Data, graphs: Sequence[int]) -> list[int] | None:
    """Return the indices of some graphs in their split, `None` if unknown.

    Args:
        data: A sample or a batch.
        graphs: Indices of the graphs in the batch.
    """
    numbers = data.get(NUMBER)
    if numbers is None:
        return None
    listed = numbers.tolist() if isinstance(numbers, Tensor) else [numbers]
    chosen = [listed[graph] for graph in graphs]
    return [number if number >= 0 else -1 - number for number in chosen]


def is_repeated(data: Data) -> bool:
    """Return whether all samples of a batch are repetitions from other processes."""
    numbers = data.get(NUMBER)
    if numbers is None:
        return False
    return bool((torch.as_tensor(numbers) < 0).all())


def name_samples(numbers: Sequence[int]) -> str:
    """Format indices of samples for a message."""
    named = ", ".join(map(str, numbers[:_MOST_NAMED]))
    more = len(numbers) - _MOST_NAMED
    others = f" and {more} others" if more > 0 else ""
    return f"sample{'s' if len(numbers) > 1 else ''} {named}{others}"
