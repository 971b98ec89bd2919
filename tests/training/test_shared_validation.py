"""Validation on several processes that do not share the samples evenly."""

import os
import warnings

import pytest
import torch
import torch.distributed as dist
from lightning.pytorch import Trainer
from torch_geometric.data import Batch, Data

from torch_geometric_flare import FLARE
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.testing import run_processes
from torch_geometric_flare.training import (
    SurrogateDataModule,
    SurrogateModule,
    evaluate,
    quiet_lightning,
    shard_points,
)
from torch_geometric_flare.transforms import Normalizer


def validate_together(folder, number, batch_size):
    """The error that all processes log, and that of one process over each sample."""
    os.environ["LOCAL_RANK"] = str(dist.get_rank())
    torch.manual_seed(0)
    samples = [
        Data(x=torch.rand(20, 3), y=torch.rand(20, 1) * 10.0**-index)
        for index in range(number)
    ]
    model = FLARE(3, 8, 1, num_layers=1, heads=2, num_latents=4)
    recipe = Recipe(model_class=FLARE, batch_size=batch_size)
    module = SurrogateModule(model, Normalizer([0.5], [1.0]), recipe=recipe)
    data = SurrogateDataModule(samples, val=samples, batch_size=batch_size)
    with warnings.catch_warnings(), quiet_lightning():
        warnings.filterwarnings("ignore", "Using `DistributedSampler`")
        trainer = Trainer(
            accelerator="cpu",
            devices=2,
            strategy="ddp",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            default_root_dir=folder,
        )
        (found,) = trainer.validate(module, data, verbose=False)
    return found["val_loss"], evaluate(module.surrogate, samples).mean().item()


def measure_gaps():
    """The loss of validation over the points of all processes, and of one process."""
    torch.manual_seed(0)
    samples = [Data(x=torch.rand(20, 3), y=torch.rand(20, 1) + 1) for _ in range(3)]
    samples[0].y[3:5] = torch.nan  # all on the first process
    samples[1].y[:] = torch.nan
    model = FLARE(3, 8, 1, num_layers=1, heads=2, num_latents=4)
    module = SurrogateModule(model, Normalizer([0.5], [1.0])).eval()
    batch = Batch.from_data_list(samples)
    shard = shard_points(batch, dist.group.WORLD)
    with torch.no_grad():
        both = [module.measure(module(data), data) for data in (shard, batch)]
    return [measured["loss"].item() for measured in both]


def test_gaps_are_left_out_of_shared_samples():
    for found, expected in run_processes(measure_gaps, 2):
        assert found == pytest.approx(expected, rel=1e-5)
        assert expected > 0


@pytest.mark.parametrize("number, batch_size", [(3, 1), (5, 2), (1, 1)])
def test_every_sample_counts_once(tmp_path, number, batch_size):
    both = run_processes(validate_together, 2, str(tmp_path), number, batch_size)
    for found, expected in both:
        assert found == pytest.approx(expected, rel=1e-5)
