"""Warnings about samples whose error is not the usual one."""

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare.fields import Fields, channel_slices

NUMBER = "number_in_split"
"""Attribute with the number of a sample in its split, set by the data module.

It is $-1 - i$ for a sample $i$ that is repeated to give all processes as many batches.
"""

_MOST_NAMED = 5


def warn_absolute(
    samples: Mapping[str, Sequence[int]], scale: Mapping[str, Tensor]
) -> None:
    """Warn that some samples have an absolute error, because a field of theirs is zero.

    Args:
        samples: Numbers of the samples in their data set, by the name of the field.
        scale: The unit of the error in each channel, by the name of the field.
    """
    for name, numbers in samples.items():
        if numbers:
            unit = ", ".join(f"{value:g}" for value in scale[name].flatten().tolist())
            warnings.warn(
                f"field {name!r} is zero at every point of {name_samples(numbers)}: "
                f"the error there is absolute, in units of the scale {unit}",
                stacklevel=3,
            )


def warn_gaps(gaps: Mapping[str, Mapping[int, int]]) -> None:
    """Warn that points without a finite truth are left out of the errors.

    Args:
        gaps: By the name of the field, the number of such points of each sample.
    """
    for name, counts in gaps.items():
        if counts:
            warnings.warn(
                f"field {name!r} has {sum(counts.values())} values that are not finite "
                f"in {name_samples(list(counts))}: they are left out of the errors",
                stacklevel=3,
            )


def count_gaps(data: Data, fields: Fields) -> dict[str, list[int]]:
    """Return, by the name of the field, the points without a finite truth per graph."""
    unknown = ~data.y.isfinite()
    if not bool(unknown.any()):
        return {}
    number = data.num_graphs if "batch" in data else 1
    batch = data.get("batch")
    if batch is None:
        batch = torch.zeros(len(unknown), dtype=torch.long, device=unknown.device)
    return {
        name: batch[unknown[:, columns].any(1)].bincount(minlength=number).tolist()
        for name, columns in channel_slices(fields).items()
    }


def numbers_of(data: Data, graphs: Sequence[int]) -> list[int] | None:
    """Return the numbers of some graphs in their split, `None` if it does not tell.

    Args:
        data: A sample or a batch.
        graphs: Numbers of the graphs in the batch.
    """
    numbers = data.get(NUMBER)
    if numbers is None:
        return None
    listed = numbers.tolist() if isinstance(numbers, Tensor) else [numbers]
    chosen = [listed[graph] for graph in graphs]
    return [number if number >= 0 else -1 - number for number in chosen]


def is_repeated(data: Data) -> bool:
    """Return whether another process has all samples of a batch too."""
    numbers = data.get(NUMBER)
    if numbers is None:
        return False
    return bool((torch.as_tensor(numbers) < 0).all())


def name_samples(numbers: Sequence[int]) -> str:
    """Return a few numbers of samples in words."""
    named = ", ".join(map(str, numbers[:_MOST_NAMED]))
    more = len(numbers) - _MOST_NAMED
    others = f" and {more} others" if more > 0 else ""
    return f"sample{'s' if len(numbers) > 1 else ''} {named}{others}"
