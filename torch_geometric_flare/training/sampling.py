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
from torch_geometric.data import Batch, Data, InMemoryDataset

from torch_geometric_flare._random import derive_seed, keep_random_state
from torch_geometric_flare.nn.checks import check_positive
from torch_geometric_flare.surrogates.query_surrogate import FOLLOW_BATCH
from torch_geometric_flare.training.flags import NUMBER

# Fields that refer to points by their position.
_CONNECTIVITY = ("edge_index", "cells", "grid")
_PLACE = "place_before_the_transform"
# Number of random orders that are packed to determine the number of batches per epoch.
_TRIALS = 8
# Number of attempts to fit an order into this many batches, from random to sorted.
_ATTEMPTS = 8
# Batches are packed on the CPU for any default device of PyTorch.
_HOST: Any = {"dtype": torch.float64, "device": "cpu"}

Key = tuple[int, int]
"""An epoch and the index of a sample, $-1 - i$ if sample $i$ is a repetition."""

# Purposes of seeds; their random streams must differ.
ORDER, _SAMPLE, _EPOCH, TRIAL = 0, 1, 2, 3


def _seed_host(seed: int) -> None:
    """Seed the CPU generators without changing those of devices."""
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def seed_epoch(seed: int, epoch: int, rank: int = 0) -> None:
    """Seed all generators for one epoch of training, such as for dropout masks.

    With one seed per epoch, an epoch does not depend on whether preceding epochs ran in
    this process or in an interrupted one.

    Args:
        seed: The seed of the training.
        epoch: Index of the epoch.
        rank: Rank of the process, because masks must differ between processes.
    """
    derived = derive_seed(seed, _EPOCH, epoch, rank)
    _seed_host(derived)
    torch.manual_seed(derived)


class EpochSampler(Sampler[Key]):
    """Yields each sample once per epoch as a key (epoch, index).

    Because the key contains the epoch, workers know it even if they are persistent and
    prefetch.

    Args:
        num_samples: Length of the dataset.
        seed: The seed of the order.
        shuffle: Whether to use a new order in each epoch. Otherwise, the order is that
            of the dataset and the epoch is always 0, so that every pass is the same.
    """

    def __init__(self, num_samples: int, seed: int, *, shuffle: bool) -> None:
        self.num_samples = num_samples
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; called by Lightning at the start of each epoch."""
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
    """Yields the keys of a distributed sampler and marks repeated ones.

    If the samples cannot be divided evenly, PyTorch's sampler repeats the first ones,
    so that all processes have the same number. Metrics must count each sample once.

    Args:
        sampler: Yields the samples of this process, without shuffling.
    """

    def __init__(self, sampler: "DistributedSampler[Key]") -> None:
        self.sampler = sampler

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; called by Lightning at the start of each epoch."""
        self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[Key]:
        sampler = self.sampler
        distinct = len(sampler.dataset)  # type: ignore[arg-type]
        for position, (epoch, index) in enumerate(sampler):
            is_repeated = position * sampler.num_replicas + sampler.rank >= distinct
            yield epoch, -1 - index if is_repeated else index

    def __len__(self) -> int:
        return len(self.sampler)


class SeededDataset(Dataset[Data]):
    """Samples whose random transforms depend only on (seed, epoch, index).

    The dataset's transform and `transform` run with generators seeded from the key,
    which are restored afterwards. A list of keys returns the list of their samples. An
    index without an epoch, as from PyTorch's samplers, refers to epoch 0.

    Args:
        dataset: Samples by index.
        seed: The seed of the transforms.
        transform: Applied to a copy of each sample.
        edges: Applied after `transform`.
        numbered: Whether to store the index of each sample as `flags.NUMBER`, for
            messages.

    Raises:
        ValueError: When a sample is created, if `transform` removes or reorders points
            but does not update `edge_index`, `cells` or `grid`.
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
        # Samples are created on the CPU for any default device of PyTorch, so the
        # generators of devices are not used.
        with keep_random_state(devices=False), torch.device("cpu"):
            _seed_host(derive_seed(self.seed, _SAMPLE, epoch, index))
            data = self.dataset[index]
            if self.transform is not None:
                data = _transform(data, self.transform)
            if self.edges is not None:
                data = self.edges(data)
        if self.numbered:
            # Copy, because a list in memory returns the caller's samples.
            data = copy.copy(data)
            data[NUMBER] = number
        return data

    def __len__(self) -> int:
        return len(self.dataset)


def _transform(data: Data, transform: Callable[[Data], Data]) -> Data:
    """Apply a transform to a copy and check that edges still match the points."""
    before = copy.copy(data)
    kept = [name for name in _CONNECTIVITY if name in data]
    if not kept:
        return transform(before)
    positions = torch.arange(data.num_nodes)
    before[_PLACE] = positions.clone()
    after = transform(before)
    if _PLACE not in after:
        return after
    moved = not torch.equal(after[_PLACE], positions)
    del after[_PLACE]
    for name in kept:
        if moved and after.get(name) is data[name]:
            raise ValueError(
                f"the sample has {name}, which refers to points by position, but "
                f"{transform!r} removes or reorders points: delete {name} first, or "
                "train on whole samples"
            )
    return after


def make_batch(samples: Sequence[Data], numbers: Sequence[int] | None) -> Batch:
    """Return a batch of samples, built on the CPU for any default device of PyTorch.

    If some samples have a `weight`, the others get weights of one: PyTorch Geometric
    takes the keys of a batch from its first sample, and would lose them.

    Args:
        samples: The samples.
        numbers: Their indices in the data set, for messages; `None` if unknown.

    Raises:
        ValueError: If a sample lacks an attribute of the first one.
    """
    has_weight = ["weight" in data for data in samples]
    if any(has_weight) and not all(has_weight):
        samples = [copy.copy(data) for data in samples]
        for data, has in zip(samples, has_weight, strict=True):
            if not has:
                data.weight = torch.ones(data.num_nodes, device="cpu")
    expected = set(samples[0].keys())
    for index, data in enumerate(samples):
        if missing := expected.difference(data.keys()):
            number = f"{index} of a batch" if numbers is None else numbers[index]
            raise ValueError(
                f"sample {number} has no {min(missing)!r}, but the first of its batch "
                "has: give all samples the same attributes"
            )
    with torch.device("cpu"):
        return Batch.from_data_list(list(samples), follow_batch=FOLLOW_BATCH)


def sample_sizes(dataset: Sequence[Data]) -> list[int]:
    """Return the number of points of each sample without loading samples from disk.

    Args:
        dataset: A data set with an attribute `sizes`, such as those of this package, a
            list of `Data`, a `torch_geometric.data.InMemoryDataset`, or a
            `torch.utils.data` subset of one of these.

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
        f"{type(dataset).__name__} does not have the sizes of its samples: add an "
        "attribute `sizes`, one number per sample, or pass sizes= to the data module"
    )


class PointBatchSampler(Sampler[list[Key]]):
    """Yields batches with a maximum number of points, each sample once per epoch.

    In each epoch, a new random order of the samples is packed by best fit. The number
    of batches depends on the order, but a learning rate schedule must know it in
    advance. Therefore, it is fixed to the median of some random orders or, if that is
    larger, to the number for the order from the largest to the smallest sample. If the
    order of an epoch needs more batches, orders increasingly close to the sorted order,
    which fits, are tried. If it needs fewer, the fullest batches are split in half.

    Pass it as a loader's `sampler`, with `batch_size=None`, so that the batches of an
    epoch are divided among the processes of a training.

    Args:
        sizes: Number of points of each sample.
        max_points: Maximum number of points per batch. A larger sample is a separate
            batch.
        seed: The seed of the order.
        max_samples: Maximum number of samples per batch; `None` for no limit.

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
    ) -> None:
        if len(sizes) == 0 or min(sizes) < 0:
            raise ValueError(
                "sizes must hold one nonnegative number of points for each sample, at "
                f"least one, got {list(sizes)[:10]}"
            )
        check_positive(max_points=max_points)
        if max_samples is not None:
            check_positive(max_samples=max_samples)
        self.sizes = [int(size) for size in sizes]
        self.max_points = max_points
        self.seed = seed
        self.max_samples = len(self.sizes) if max_samples is None else max_samples
        self.epoch = 0
        by_size = sorted(range(len(self.sizes)), key=self.sizes.__getitem__)
        # The rank of each sample by size, scaled to [0, 1].
        self._rank = torch.empty(len(self.sizes), **_HOST)
        self._rank[by_size] = torch.linspace(0, 1, len(by_size), **_HOST)
        generator = _generator(seed, TRIAL)
        trials = [len(self._pack(generator, lean=0)) for _ in range(_TRIALS)]
        largest_first = len(self._pack(generator, lean=1))
        self._num_batches = max(largest_first, median_low(trials))

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; called by Lightning at the start of each epoch."""
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
        """Pack the samples by best fit, in random (0) to sorted (1) order."""
        noise = torch.rand(len(self.sizes), generator=generator, **_HOST)
        order = torch.lerp(noise, self._rank, lean).argsort(descending=True)
        batches: list[list[int]] = []
        # Remaining points and index of each open batch.
        room: list[tuple[int, ...]] = []
        for index in order.tolist():
            size = self.sizes[index]
            fitting = bisect_left(room, (size,))
            if fitting < len(room):
                remaining, number = room.pop(fitting)
            else:
                remaining, number = self.max_points, len(batches)
                batches.append([])
            batches[number].append(index)
            if remaining > size and len(batches[number]) < self.max_samples:
                insort(room, (remaining - size, number))
        return batches


def _generator(seed: int, *key: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(derive_seed(seed, *key))
