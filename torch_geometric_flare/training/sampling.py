"""Order, batches and augmentation as functions of (seed, epoch, index)."""

import copy
import random
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from statistics import median_low
from typing import Any, overload

import numpy as np
import torch
from torch.utils.data import Dataset, DistributedSampler, Sampler, Subset
from torch_geometric.data import Data, InMemoryDataset

from torch_geometric_flare._random import keep_random_state
from torch_geometric_flare.nn.checks import check_positive
from torch_geometric_flare.training.flags import NUMBER

# Fields that refer to points by their position.
_CONNECTIVITY = ("edge_index", "cells", "grid")
_PLACE = "place_before_the_transform"
# Random orders that are packed to find how many batches an epoch needs.
_TRIALS = 8
# Attempts to fit an order into that many batches, from fully random to sorted.
_ATTEMPTS = 8
# Batches are packed on the CPU, whatever torch's default device.
_HOST: Any = {"dtype": torch.float64, "device": "cpu"}

Key = tuple[int, int]
"""An epoch and the index of a sample, $-1 - i$ where sample $i$ is repeated."""

# Purposes of seeds, whose random streams must not coincide.
ORDER, _SAMPLE, _EPOCH, TRIAL = 0, 1, 2, 3


def derive_seed(seed: int, *key: int) -> int:
    """Return a seed for one purpose, unrelated to that of any other key."""
    state = np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)
    return int(state[0])


def _seed_host(seed: int) -> None:
    """Seed the generators of the CPU, and leave those of the devices alone."""
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def seed_epoch(seed: int, epoch: int, rank: int = 0) -> None:
    """Seed everything for one epoch of training, such as the masks of dropout.

    An epoch that starts from its own seed is the same whether the epochs before
    it ran in this process or in an interrupted one.

    Args:
        seed: The seed of the training.
        epoch: Number of the epoch.
        rank: Number of the process, as processes must not share their masks.
    """
    derived = derive_seed(seed, _EPOCH, epoch, rank)
    _seed_host(derived)
    torch.manual_seed(derived)


class EpochSampler(Sampler[Key]):
    """Yields each sample once per epoch, as a key (epoch, index).

    Carrying the epoch in the key tells a worker which epoch it serves, however long it
    lives and however far it reads ahead.

    Args:
        num_samples: Length of the dataset.
        seed: The seed of the order.
        shuffle: A new order each epoch; otherwise the dataset's own order, and epoch 0
            at all times, so that every pass is the same.
        epoch: The first epoch.
    """

    def __init__(
        self, num_samples: int, seed: int, *, shuffle: bool, epoch: int = 0
    ) -> None:
        self.num_samples = num_samples
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = epoch

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Key]:
        if not self.shuffle:
            yield from ((0, index) for index in range(self.num_samples))
            return
        epoch = self.epoch
        generator = torch.Generator("cpu")
        generator.manual_seed(derive_seed(self.seed, ORDER, epoch))
        order = torch.randperm(self.num_samples, generator=generator, device="cpu")
        yield from ((epoch, index) for index in order.tolist())

    def __len__(self) -> int:
        return self.num_samples


class RepeatedSampler(Sampler[Key]):
    """Yields the keys of a distributed sampler, and marks those that it repeats.

    Where the samples do not share out evenly, torch's sampler takes the first ones
    once more, so that all processes have as many. In an error each sample must count
    once.

    Args:
        sampler: Yields the share of this process, without shuffling.
    """

    def __init__(self, sampler: "DistributedSampler[Key]") -> None:
        self.sampler = sampler

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch."""
        self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[Key]:
        sampler = self.sampler
        distinct = len(sampler.dataset)  # type: ignore[arg-type]
        for place, (epoch, index) in enumerate(sampler):
            is_repeated = place * sampler.num_replicas + sampler.rank >= distinct
            yield epoch, -1 - index if is_repeated else index

    def __len__(self) -> int:
        return len(self.sampler)


class SeededDataset(Dataset[Data]):
    """Samples whose random transforms depend on (seed, epoch, index) alone.

    Everything that makes a sample runs under generators seeded from its key, which are
    put back afterwards: the dataset's own transform and `transform`. A list of keys
    gives the list of their samples. An index without an epoch, as of torch's own
    samplers, is that of epoch 0.

    Args:
        dataset: Samples by index.
        seed: The seed of the transforms.
        transform: Applied to a copy of each sample.
        edges: Applied after `transform`.
        numbered: Give each sample its index as `flags.NUMBER`, for messages.

    Raises:
        ValueError: When a sample is made, if `transform` leaves out or moves points,
            but keeps `edge_index`, `cells` or `grid` as they were.
    """

    def __init__(
        self,
        dataset: Sequence[Data],
        seed: int,
        transform: Callable[[Data], Data] | None = None,
        edges: Callable[[Data], Data] | None = None,
        numbered: bool = False,
    ) -> None:
        self.numbered = numbered
        self.dataset = dataset
        self.seed = seed
        self.transform = transform
        self.edges = edges

    @overload
    def __getitem__(self, key: Key | int) -> Data: ...

    @overload
    def __getitem__(self, key: list[Key]) -> list[Data]: ...

    def __getitem__(self, key: Key | int | list[Key]) -> Data | list[Data]:
        if isinstance(key, list):
            return [self[one] for one in key]
        epoch, number = (0, key) if isinstance(key, int) else key
        is_repeated = number < 0 and not isinstance(key, int)
        index = -1 - number if is_repeated else number
        # The generators of the devices are not read here, so they stay as they are.
        # Samples are made on the CPU, whatever torch's default device.
        with keep_random_state(devices=False), torch.device("cpu"):
            _seed_host(derive_seed(self.seed, _SAMPLE, epoch, index))
            data = self.dataset[index]
            if self.transform is not None:
                data = _transform(data, self.transform)
            if self.edges is not None:
                data = self.edges(data)
        if self.numbered:
            # Copied: a list in memory hands out the caller's own samples.
            data = copy.copy(data)
            data[NUMBER] = number
        return data

    def __len__(self) -> int:
        return len(self.dataset)


def _transform(data: Data, transform: Callable[[Data], Data]) -> Data:
    """Apply a transform to a copy, and check that edges still match the points."""
    before = copy.copy(data)
    kept = [name for name in _CONNECTIVITY if name in data]
    if not kept:
        return transform(before)
    places = torch.arange(data.num_nodes)
    before[_PLACE] = places.clone()
    after = transform(before)
    if _PLACE not in after:
        return after
    moved = not torch.equal(after[_PLACE], places)
    del after[_PLACE]
    for name in kept:
        if moved and after.get(name) is data[name]:
            raise ValueError(
                f"the sample has {name}, which names points by their place, but "
                f"{transform!r} leaves out or moves points: delete {name} first, or "
                "train on whole samples"
            )
    return after


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


class PointBatchSampler(Sampler[list[Key]]):
    """Yields batches of at most so many points; each sample is in one batch per epoch.

    A random order of the samples, new in each epoch, is packed by best fit. How many
    batches that takes depends on the order, but a schedule of the learning rate must
    know it beforehand. So the number is fixed: the median of some random orders, or
    what the order from the largest sample to the smallest needs if that is more. An
    epoch whose order needs more tries orders that lean more and more toward the
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
        ValueError: If `sizes` is empty or holds a negative number, or a limit is
            not a positive integer.
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
        """Pack the samples by best fit, in random order (0) to largest first (1)."""
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
