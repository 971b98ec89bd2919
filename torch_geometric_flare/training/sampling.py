"""Order and augmentation of samples as a function of (seed, epoch, index)."""

import copy
import random
from collections.abc import Callable, Iterator, Sequence
from typing import overload

import numpy as np
import torch
from torch.utils.data import Dataset, DistributedSampler, Sampler
from torch_geometric.data import Data

from torch_geometric_flare._random import keep_random_state
from torch_geometric_flare.training.flags import NUMBER

# What names points by their place.
_CONNECTIVITY = ("edge_index", "cells", "grid")
_PLACE = "place_before_the_transform"

Key = tuple[int, int]
"""An epoch and the index of a sample, $-1 - i$ where sample $i$ is repeated."""

# What a seed is for: streams of different purpose must not coincide.
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

    An epoch that starts from a seed of its own is the same whether the epochs before
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
    """Yields the keys of a distributed sampler, and tells those that it repeats.

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
    """Apply a transform to a copy, and check that points are still where edges lead."""
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
