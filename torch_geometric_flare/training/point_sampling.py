"""Batches of a limited number of points, as a function of (seed, epoch)."""

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from statistics import median_low
from typing import Any

import torch
from torch.utils.data import Sampler, Subset
from torch_geometric.data import Data, InMemoryDataset

from torch_geometric_flare.nn.checks import check_positive
from torch_geometric_flare.training.sampling import ORDER, TRIAL, Key, derive_seed

# Random orders that are packed to find how many batches an epoch needs.
_TRIALS = 8
# Attempts to fit a random order into that many batches, from any order to none.
_ATTEMPTS = 8


def sample_sizes(dataset: Sequence[Data]) -> list[int]:
    """Return the points of each sample, without loading what lies on disk.

    Args:
        dataset: A data set with an attribute `sizes`, such as those of this package, a
            list of `Data`, a `torch_geometric.data.InMemoryDataset`, or a subset of
            one of these by `torch.utils.data`.

    Returns:
        One number per sample, before `transform`.

    Raises:
        ValueError: If `dataset` is none of these.
    """
    sizes = getattr(dataset, "sizes", None)
    if sizes is not None:
        return [int(size) for size in sizes]
    if isinstance(dataset, Subset):
        whole = sample_sizes(dataset.dataset)  # type: ignore[arg-type]
        return [whole[index] for index in dataset.indices]
    if isinstance(dataset, InMemoryDataset):
        return [int(dataset.get(index).num_nodes) for index in dataset.indices()]
    if isinstance(dataset, list | tuple):
        return [int(data.num_nodes) for data in dataset]
    raise ValueError(
        f"{type(dataset).__name__} does not tell the points of its samples: give it an "
        "attribute `sizes`, one number per sample, or pass sizes= to the data module"
    )


# Batches are packed on the CPU, whatever torch's default device.
_HOST: Any = {"dtype": torch.float64, "device": "cpu"}


class PointBatchSampler(Sampler[list[Key]]):
    """Yields batches of at most so many points; each sample is in one batch per epoch.

    A random order of the samples, other in each epoch, is packed by best fit. How many
    batches that takes depends on the order, but a schedule of the learning rate must
    know it beforehand. So the number is fixed: the median of some random orders, or
    what the order from the largest sample to the smallest needs if that is more. An
    epoch whose order needs more tries orders that lean more and more towards the
    latter, which fits; one that needs fewer has its fullest batches halved.

    The sampler takes the place of a loader's `sampler`, with `batch_size=None`, so that
    processes that train together share out the batches of one epoch.

    Args:
        sizes: Points of each sample.
        max_points: Points in a batch. A larger sample is a batch by itself.
        seed: The seed of the order.
        max_samples: Samples in a batch; `None` for any number.
        epoch: The first epoch.

    Raises:
        ValueError: If `sizes` is empty or holds a negative number, or a limit is no
            positive integer.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        max_points: int,
        seed: int,
        *,
        max_samples: int | None = None,
        epoch: int = 0,
    ) -> None:
        if len(sizes) == 0 or min(sizes) < 0:
            raise ValueError(
                "sizes must hold the points of each sample, at least one and none "
                f"negative, got {list(sizes)[:10]}"
            )
        check_positive(max_points=max_points)
        if max_samples is not None:
            check_positive(max_samples=max_samples)
        self.sizes = [int(size) for size in sizes]
        self.max_points = max_points
        self.seed = seed
        self.max_samples = len(self.sizes) if max_samples is None else max_samples
        self.epoch = epoch
        by_size = sorted(range(len(self.sizes)), key=self.sizes.__getitem__)
        # The place of each sample in that order, between 0 and 1.
        self._rank = torch.empty(len(self.sizes), **_HOST)
        self._rank[by_size] = torch.linspace(0, 1, len(by_size), **_HOST)
        generator = _generator(seed, TRIAL)
        trials = [len(self._pack(generator, lean=0)) for _ in range(_TRIALS)]
        largest_first = len(self._pack(generator, lean=1))
        self._num_batches = max(largest_first, median_low(trials))

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[Key]]:
        epoch = self.epoch
        generator = _generator(self.seed, ORDER, epoch)
        for attempt in range(_ATTEMPTS + 1):
            batches = self._pack(generator, attempt / _ATTEMPTS)
            if len(batches) <= self._num_batches:
                break
        while len(batches) < self._num_batches:
            fullest = max((b for b in batches if len(b) > 1), key=self._num_points)
            batches.append([fullest.pop() for _ in range(len(fullest) // 2)])
        order = torch.randperm(len(batches), generator=generator, device="cpu")
        for number in order.tolist():
            yield [(epoch, index) for index in batches[number]]

    def __len__(self) -> int:
        return self._num_batches

    def _num_points(self, batch: list[int]) -> int:
        return sum(self.sizes[index] for index in batch)

    def _pack(self, generator: torch.Generator, lean: float) -> list[list[int]]:
        """Best fit of the samples in random order (0) to largest first (1)."""
        drawn = torch.rand(len(self.sizes), generator=generator, **_HOST)
        order = torch.lerp(drawn, self._rank, lean).argsort(descending=True)
        batches: list[list[int]] = []
        room: list[tuple[int, ...]] = []  # points left and number of each open batch
        for index in order.tolist():
            size = self.sizes[index]
            fitting = bisect_left(room, (size,))
            if fitting < len(room):
                left, number = room.pop(fitting)
            else:
                left, number = self.max_points, len(batches)
                batches.append([])
            batches[number].append(index)
            if left > size and len(batches[number]) < self.max_samples:
                insort(room, (left - size, number))
        return batches


def _generator(seed: int, *key: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(derive_seed(seed, *key))
