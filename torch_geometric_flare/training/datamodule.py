"""Training, validation and test splits for Lightning."""

import signal
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.callbacks import BatchSizeFinder
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor
from torch.utils.data import DistributedSampler, SequentialSampler
from torch_geometric.data import Batch, Data
from torch_geometric.data.data import BaseData
from torch_geometric.loader import DataLoader

from torch_geometric_flare._arguments import brief, check_integers, check_kind, describe
from torch_geometric_flare.nn.checks import check_positive
from torch_geometric_flare.surrogates import edge_transform
from torch_geometric_flare.training.flags import NUMBER
from torch_geometric_flare.training.sampling import (
    EpochSampler,
    PointBatchSampler,
    RepeatedSampler,
    SeededDataset,
    make_batch,
    sample_sizes,
)

# Entries that must not change on resume.
_FIXED = (
    "seed",
    "batch_size",
    "num_samples",
    "max_points",
    "sizes_crc32",
    "train_transform",
    "first_and_last_sample",
)


class _Loader(DataLoader):
    """A loader that stays correct when Lightning rebuilds it with another sampler.

    With several processes Lightning wraps the sampler in one that shuffles again, so
    processes that share each sample would take other steps than a single process. For
    `Trainer(overfit_batches=...)` it passes torch's sequential sampler, which yields
    samples instead of batches.

    In validation and test, repeated samples are marked, and dropped from batches that
    hold others.

    Args:
        in_order: Whether these are validation or test samples.
    """

    def __init__(self, *args: Any, in_order: bool = False, **kwargs: Any) -> None:
        self.in_order = in_order
        sampler = kwargs.get("sampler")
        if isinstance(sampler, SequentialSampler):
            kwargs["batch_size"] = kwargs["batch_size"] or 1
        if isinstance(sampler, DistributedSampler):
            sampler.shuffle = False
            if in_order:
                kwargs["sampler"] = RepeatedSampler(sampler)
        super().__init__(*args, **kwargs)
        self.collate_fn = _collate

    def __iter__(self) -> Any:
        # DataLoader draws a seed with a CPU generator on torch's default device.
        with torch.device("cpu"):
            return super().__iter__()


def _collate(samples: list[Data]) -> Batch:
    """Return a batch of the samples that are not repeated, or all if there are none."""
    samples = [data for data in samples if data.get(NUMBER, 0) >= 0] or samples
    numbers = [data.get(NUMBER, 0) for data in samples]
    known = all(NUMBER in data for data in samples)
    return make_batch(samples, [max(n, -1 - n) for n in numbers] if known else None)


class SurrogateDataModule(LightningDataModule):
    """Batches whose order and augmentation depend only on (seed, epoch).

    Any transform of PyTorch Geometric is reproducible here, such as
    `FixedPoints(1000, replace=False)`, with any number of workers and after a resume:
    it runs with generators seeded from (seed, epoch, index). A transform that drops or
    reorders points of a sample with `edge_index`, `cells` or `grid`, which refer to
    points by index, is refused unless it replaces these. Each epoch takes every
    training sample once; the last batch may be smaller. The validation and test samples
    are the same in every pass.

    If the model's forward needs `edge_index`, edges are added on the device of the
    samples (`surrogates.edge_transform`), after `train_transform`.

    Processes of one training, or groups of them that share each sample, take the
    samples of the epoch in turn: with two, the first gets every other sample (with
    `max_points`, every other batch) and the second the rest. If they cannot be divided
    evenly, the first ones of the order are repeated at the end. A single group has the
    order of a single process. In validation and test a repeated sample counts once.

    With `max_points`, batches of samples of different sizes need similar memory: each
    holds as many samples as fit. Their composition changes with the epoch, but the
    number of batches does not. Validation and test then take one sample at a time.

    Args:
        train: Training samples; a dataset of PyTorch Geometric or a list of `Data`.
        val: Validation samples.
        test: Test samples.
        batch_size: Samples in a batch; by default one or, with `max_points`, as many as
            fit. With both, neither limit is exceeded.
        train_transform: Applied to each training sample in each epoch.
        seed: Seed of the order and of the transforms.
        num_workers: Number of worker processes; 0 for none.
        max_points: Maximum number of points in a training batch; a larger sample forms
            a batch alone. `None` for no limit.
        sizes: Points of each training sample, for `max_points`; by default the
            attribute `sizes` of `train`, which the datasets of this package read from
            their index, or the `num_nodes` of samples in memory. Pass them if a
            transform changes them, as in `sizes=[1000] * len(train)`.

    Raises:
        ValueError: If `train` is empty, `batch_size` or `max_points` is not a positive
            integer, a number is negative, or `sizes` is given without `max_points`, is
            not one number per sample, or is missing and `train` does not provide it.
    """

    def __init__(
        self,
        train: Sequence[Data],
        val: Sequence[Data] | None = None,
        test: Sequence[Data] | None = None,
        batch_size: int | None = None,
        train_transform: Callable[[Data], Data] | None = None,
        seed: int = 0,
        num_workers: int = 0,
        max_points: int | None = None,
        sizes: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        for name, samples in (("train", train), ("val", val), ("test", test)):
            if samples is None and name != "train":
                continue
            indexed = hasattr(samples, "__len__") and hasattr(samples, "__getitem__")
            if not indexed or isinstance(samples, str | np.ndarray | Mapping):
                raise TypeError(
                    f"{name} is {brief(samples)}, expected a data set of PyTorch "
                    "Geometric or a list of Data"
                )
            if isinstance(samples, list | tuple):
                for index, sample in enumerate(samples):
                    check_kind(BaseData, "a Data", **{f"{name}[{index}]": sample})
        check_integers(0, seed=seed, num_workers=num_workers)
        if len(train) == 0:
            raise ValueError("train is empty: pass at least one sample")
        if batch_size is None and max_points is None:
            batch_size = 1
        if batch_size is not None:
            check_positive(batch_size=batch_size)
        if max_points is not None:
            check_positive(max_points=max_points)
        self.train = train
        self.val = val
        self.test = test
        self.batch_size = batch_size
        self.train_transform = train_transform
        self.seed = seed
        self.num_workers = num_workers
        self.max_points = max_points
        self._sampler = self._training_sampler(sizes)

    def _training_sampler(
        self, sizes: Sequence[int] | None
    ) -> EpochSampler | PointBatchSampler:
        if self.max_points is None:
            if sizes is not None:
                raise ValueError("sizes is given without max_points: pass both or none")
            return EpochSampler(len(self.train), self.seed, shuffle=True)
        sizes = sample_sizes(self.train) if sizes is None else sizes
        if len(sizes) != len(self.train):
            raise ValueError(
                f"sizes holds {len(sizes)} numbers for the {len(self.train)} samples "
                "of train: pass the points of each sample"
            )
        return PointBatchSampler(
            sizes, self.max_points, self.seed, max_samples=self.batch_size
        )

    @property
    def num_batches(self) -> int:
        """Number of training batches per epoch, the same in each epoch."""
        if isinstance(self._sampler, PointBatchSampler):
            return len(self._sampler)
        assert self.batch_size is not None
        return -(-len(self.train) // self.batch_size)

    def train_dataloader(self) -> DataLoader:
        """Return a loader of the training split, with a new order in each epoch."""
        # PointBatchSampler yields whole batches, so the loader must not batch.
        whole = isinstance(self._sampler, PointBatchSampler)
        batch_size = None if whole else self.batch_size
        return self._loader(self.train, self._sampler, batch_size, self.train_transform)

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """Return a loader of the validation split, if there is one."""
        return [] if self.val is None else self._ordered(self.val)

    def test_dataloader(self) -> DataLoader:
        """Return a loader of the test split.

        Raises:
            ValueError: If there is no such split.
        """
        if self.test is None:
            raise ValueError("there is no test split: pass test= to the data module")
        return self._ordered(self.test)

    def predict_dataloader(self) -> DataLoader:
        """Return a loader of the test split, as `test_dataloader` does."""
        return self.test_dataloader()

    def _ordered(self, dataset: Sequence[Data]) -> DataLoader:
        sampler = EpochSampler(len(dataset), self.seed, shuffle=False)
        batch_size = self.batch_size if self.max_points is None else 1
        return self._loader(dataset, sampler, batch_size, None)

    def _loader(
        self,
        dataset: Sequence[Data],
        sampler: EpochSampler | PointBatchSampler,
        batch_size: int | None,
        transform: Callable[[Data], Data] | None,
    ) -> DataLoader:
        return _Loader(
            SeededDataset(
                dataset,
                self.seed,
                transform,
                self._edges(),
                numbered=self.trainer is not None,
            ),
            batch_size=batch_size,
            sampler=sampler,
            in_order=isinstance(sampler, EpochSampler) and not sampler.shuffle,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            # Without a generator, each iteration of the loader would advance the global
            # RNG and change the random numbers of the training.
            generator=torch.Generator("cpu"),
        )

    def _edges(self) -> Callable[[Data], Data] | None:
        """Return the transform that adds the edges that the network needs."""
        module = None if self.trainer is None else self.trainer.lightning_module
        surrogate = getattr(module, "surrogate", None)
        return edge_transform(surrogate.model) if surrogate is not None else None

    def on_exception(self, exception: BaseException) -> None:
        """Exit with the status of SIGTERM if that signal ends the training."""
        if isinstance(exception, SIGTERMException):
            exception.code = 128 + signal.SIGTERM  # Lightning sets 0, success

    def state_dict(self) -> dict[str, Any]:
        """Return the next epoch and all entries that must not change on resume."""
        return {
            "epoch": self._sampler.epoch + 1,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "num_samples": len(self.train),
            "max_points": self.max_points,
            "sizes_crc32": self._sizes_crc32(),
            "train_transform": describe(self.train_transform),
            "num_replicas": self._num_replicas(),
            "first_and_last_sample": self._first_and_last_sample,
        }

    @cached_property
    def _first_and_last_sample(self) -> str:
        """Describe two samples to identify the data without loading all of it."""
        samples = SeededDataset(self.train, self.seed)
        return " and ".join(
            _fingerprint(samples[0, index]) for index in (0, len(self.train) - 1)
        )

    def _num_replicas(self) -> int:
        """Return the number of processes, or groups, that split an epoch's samples."""
        shares = (
            None if self.trainer is None else self.trainer.distributed_sampler_kwargs
        )
        return 1 if shares is None else int(shares["num_replicas"])

    def _sizes_crc32(self) -> int | None:
        """Return a checksum of the sizes that determine the batches."""
        if not isinstance(self._sampler, PointBatchSampler):
            return None
        return zlib.crc32(str(self._sampler.sizes).encode())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with the epoch after the checkpoint's.

        Lightning builds the training loader before it sets the epoch, and workers would
        prefetch in the order of epoch 0.

        Raises:
            ValueError: If the seed, the batch size, the limit on points, the number of
                processes that get different samples, the transform, or the training
                samples (their number, their sizes, or the arrays of the first and the
                last) differ from the checkpoint.
        """
        current = self.state_dict()
        callbacks = getattr(self.trainer, "callbacks", ())
        if any(isinstance(callback, BatchSizeFinder) for callback in callbacks):
            # It tries batch sizes and then restores the earlier state.
            state_dict = {**state_dict, "batch_size": self.batch_size}
        saved, num_replicas = state_dict.get("num_replicas", 1), current["num_replicas"]
        if saved != num_replicas:
            # The learning rate schedule depends on the number of steps per epoch.
            raise ValueError(
                f"the checkpoint's epochs were shared out among {saved} devices or "
                f"groups of devices, but now it is {num_replicas}: resume with the "
                "same devices and strategy, or start a training in another folder"
            )
        for name in _FIXED:
            saved = state_dict.get(name)
            if current[name] != saved:
                raise ValueError(
                    f"the checkpoint was trained with {name}={saved} but the data has "
                    f"{current[name]}: resume with the same data, or start a training "
                    "in another folder"
                )
        self._sampler.set_epoch(state_dict["epoch"])


def _fingerprint(data: Data) -> str:
    """Describe a sample by its points and a hash of each array, `y` first."""
    arrays = {
        name: value
        for name, value in data.to_dict().items()
        if isinstance(value, Tensor) and value.layout == torch.strided
    }
    names = sorted(arrays, key=lambda name: (name != "y", name))
    hashes = ", ".join(f"{name} of CRC-32 {_crc32(arrays[name])}" for name in names)
    return f"{data.num_nodes} points with {hashes or 'no array'}"


def _crc32(value: Tensor) -> str:
    flat = value.detach().cpu().contiguous().flatten()
    return f"{zlib.crc32(flat.view(torch.uint8).numpy().tobytes()):08x}"
