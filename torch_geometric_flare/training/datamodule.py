"""Training, validation and test splits for Lightning."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from torch_geometric_flare.training.sampling import EpochSampler, SeededDataset


class SurrogateDataModule(LightningDataModule):
    """Batches whose order and augmentation depend on (seed, epoch) alone.

    Any transform of PyTorch Geometric is reproducible here, such as
    `FixedPoints(1000, replace=False)`, with any number of workers and after a resume:
    it runs under generators seeded from (seed, epoch, index). Each epoch takes every
    training sample once, the last batch being smaller if need be. The validation and
    test samples are the same in every pass.

    Args:
        train: Training samples; a dataset of PyTorch Geometric or a list of `Data`.
        val: Validation samples.
        test: Test samples.
        batch_size: Samples in a batch.
        train_transform: Applied to each training sample in each epoch.
        seed: Seed of the order and of the transforms.
        num_workers: Processes that prepare samples; 0 for none.

    Raises:
        ValueError: If `train` is empty, `batch_size` is below one or a number is
            negative.
    """

    def __init__(
        self,
        train: Sequence[Data],
        val: Sequence[Data] | None = None,
        test: Sequence[Data] | None = None,
        batch_size: int = 1,
        train_transform: Callable[[Data], Data] | None = None,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        if len(train) == 0:
            raise ValueError("train is empty: pass at least one sample")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if seed < 0 or num_workers < 0:
            raise ValueError(
                "seed and num_workers must not be negative, got "
                f"seed={seed}, num_workers={num_workers}"
            )
        self.train = train
        self.val = val
        self.test = test
        self.batch_size = batch_size
        self.train_transform = train_transform
        self.seed = seed
        self.num_workers = num_workers
        self._sampler = EpochSampler(len(train), seed, shuffle=True)

    @property
    def num_batches(self) -> int:
        """Training batches in an epoch."""
        return -(-len(self.train) // self.batch_size)

    def train_dataloader(self) -> DataLoader:
        """Batches of the training split, in a new order each epoch."""
        return self._loader(self.train, self._sampler, self.train_transform)

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """Batches of the validation split, none if there is no such split."""
        return [] if self.val is None else self._ordered(self.val)

    def test_dataloader(self) -> DataLoader:
        """Batches of the test split.

        Raises:
            ValueError: If there is no such split.
        """
        if self.test is None:
            raise ValueError("there is no test split: pass test= to the data module")
        return self._ordered(self.test)

    def _ordered(self, dataset: Sequence[Data]) -> DataLoader:
        sampler = EpochSampler(len(dataset), self.seed, shuffle=False)
        return self._loader(dataset, sampler, None)

    def _loader(
        self,
        dataset: Sequence[Data],
        sampler: EpochSampler,
        transform: Callable[[Data], Data] | None,
    ) -> DataLoader:
        return DataLoader(
            SeededDataset(dataset, self.seed, transform),
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            # A loader without one draws from the global generator whenever it is
            # iterated, which would shift the random numbers of the training.
            generator=torch.Generator(),
        )

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training must find unchanged, and the epoch it starts at."""
        return {
            "epoch": self._sampler.epoch + 1,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "num_samples": len(self.train),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue at the epoch after the checkpoint's.

        Lightning builds the training loader before it announces the epoch, and workers
        would read ahead in the order of epoch 0.

        Raises:
            ValueError: If the seed, the batch size or the number of training samples
                is another one than in the checkpoint.
        """
        here = self.state_dict()
        for name in ("seed", "batch_size", "num_samples"):
            if here[name] != state_dict[name]:
                raise ValueError(
                    f"the checkpoint was trained with {name}={state_dict[name]} but "
                    f"the data has {here[name]}: resume with the same data, or start "
                    "a training in another folder"
                )
        self._sampler.set_epoch(state_dict["epoch"])
