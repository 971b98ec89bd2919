import os
import signal
import warnings
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import nn
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

from torch_geometric_flare import FLARE
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.testing import run_processes
from torch_geometric_flare.training import (
    EpochCheckpoint,
    PointParallelStrategy,
    SurrogateDataModule,
    SurrogateModule,
    quiet_lightning,
    read_history,
    shard_points,
)
from torch_geometric_flare.training import fit as fit_in_one_call
from torch_geometric_flare.transforms import Normalizer


def make_samples():
    generator = torch.Generator().manual_seed(0)
    samples = []
    for n in (40, 7):
        x = torch.rand(n, 3, generator=generator, dtype=torch.float64)
        samples.append(Data(x=x, y=20 + 10 * torch.sin(3 * x.sum(1, keepdim=True))))
    return samples


def make_module(seed, batch_size=1, optimizer="adamw"):
    torch.manual_seed(seed)
    model = FLARE(3, 8, 1, num_layers=2, heads=2, num_latents=4).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    recipe = Recipe(
        model_class=FLARE,
        epochs=2,
        batch_size=batch_size,
        learning_rate=1e-2,
        gradient_clip=0.1,
        optimizer=optimizer,
    )
    return SurrogateModule(model, Normalizer([20.0], [7.0]).double(), recipe=recipe)


def fit(folder, seed, *, epochs=2, batch_size=1, **options):
    """Steps on all samples, and the error of the averaged weights after them."""
    module = make_module(seed)
    samples = make_samples()
    data = SurrogateDataModule(samples, val=samples, batch_size=batch_size)
    checkpoint = Path(folder) / "last.ckpt"
    with warnings.catch_warnings(), quiet_lightning():
        warnings.simplefilter("error", append=True)
        # One sample a row of the mesh, so that none is counted twice.
        warnings.filterwarnings(
            "ignore", "Using `DistributedSampler`", PossibleUserWarning
        )
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            gradient_clip_val=0.1,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            callbacks=[
                EMAWeightAveraging(decay=0.5, use_buffers=False),
                EpochCheckpoint(folder),
            ],
            default_root_dir=folder,
            **options,
        )
        trainer.fit(
            module,
            data,
            ckpt_path=checkpoint if checkpoint.exists() else None,
            weights_only=True,
        )
        (measured,) = trainer.validate(module, data, verbose=False)
    return dict(module.state_dict()), trainer.global_step, measured


def fit_on_mesh(folder, points, accumulate, epochs):
    """As `fit`, in each process of a mesh."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    os.environ["LOCAL_RANK"] = str(rank)
    for number in epochs:
        result = fit(
            folder,
            seed=rank,  # other weights in each, to be replaced by those of the first
            epochs=number,
            devices=world_size,
            strategy=PointParallelStrategy(points),
            accumulate_grad_batches=accumulate,
        )
    return result


@pytest.mark.parametrize(
    ("data", "points"),
    [(1, 2), pytest.param(2, 2, marks=pytest.mark.slow)],
)
def test_training_on_a_mesh_equals_training_alone(tmp_path, data, points):
    (tmp_path / "alone").mkdir()
    expected, steps, error = fit(tmp_path / "alone", seed=0, batch_size=2, devices=1)
    assert steps == 2
    # One epoch, and another one resumed from its checkpoint.
    results = run_processes(
        fit_on_mesh, data * points, str(tmp_path), points, 2 // data, (1, 2)
    )
    for state, steps, measured in results:
        assert steps == 2
        assert measured == pytest.approx(error)
        for name, value in expected.items():
            torch.testing.assert_close(state[name], value, atol=1e-10, rtol=1e-10)


class Interrupter(Callback):
    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == 1:
            raise InterruptedError


def train(folder, seed, batch_size, optimizer, **options):
    """What a script does."""
    samples = make_samples()
    data = SurrogateDataModule(samples, val=samples, batch_size=batch_size)
    module = make_module(seed, batch_size, optimizer)
    options = {"accelerator": "cpu", "progress": False} | options
    return fit_in_one_call(module, data, folder, **options).state_dict()


def train_on_all(folder, points, batch_size, optimizer):
    """Once at a stretch, and once interrupted and resumed."""
    rank = dist.get_rank()
    os.environ["LOCAL_RANK"] = str(rank)

    def run(name, **options):
        strategy = "ddp" if points is None else PointParallelStrategy(points)
        # Only the first process has a bar, which must not keep the others waiting.
        options |= {"strategy": strategy, "devices": 2, "progress": True}
        return train(Path(folder) / name, rank, batch_size, optimizer, **options)

    # As where each process names the folder by the time.
    whole = run(f"of process {rank}")
    with pytest.raises(InterruptedError):
        run("interrupted", callbacks=[Interrupter()])
    return whole, run("interrupted", resume=True)


@pytest.mark.parametrize(
    ("points", "batch_size", "optimizer"),
    [(None, 1, "adamw"), (2, 2, "adamw"), (2, 2, "muon")],
)
def test_fit_in_processes_equals_fit_alone(tmp_path, points, batch_size, optimizer):
    expected = train(tmp_path / "alone", 0, 2, optimizer)
    results = run_processes(
        train_on_all, 2, str(tmp_path), points, batch_size, optimizer
    )
    # Muon lifts small singular values, and the rounding of sums in them.
    tolerance = {"adamw": 1e-10, "muon": 1e-7}[optimizer]
    for whole, resumed in results:
        torch.testing.assert_close(whole, expected, atol=tolerance, rtol=tolerance)
        assert all(torch.equal(whole[name], resumed[name]) for name in expected)
    # The first process alone has written.
    history = read_history(tmp_path / "alone")
    for name, parts in (("of process 0", 1), ("interrupted", 2)):
        assert read_history(tmp_path / name) == {
            key: pytest.approx(values) for key, values in history.items()
        }
        files = sorted(p.name for p in (tmp_path / name).iterdir())
        assert files == ["last.ckpt", "metrics"]
        assert len(list((tmp_path / name / "metrics").iterdir())) == parts
    assert not (tmp_path / "of process 1").exists()


class Order(Callback):
    """Notes the samples of each batch."""

    def __init__(self):
        self.batches = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.batches.append(batch.number.tolist())


def train_on_many(folder, seed, strategy="auto", **limits):
    """Weights in double precision after two epochs, and the batches of each."""
    generator = torch.Generator().manual_seed(0)
    samples = []
    for number, n in enumerate((5, 30, 100, 40, 10)):
        x = torch.rand(n, 3, generator=generator)
        y = 20 + 10 * torch.sin(3 * x.sum(1, keepdim=True))
        samples.append(Data(x=x, y=y, number=number))
    data = SurrogateDataModule(samples, seed=2, **limits)
    order = Order()
    surrogate = fit_in_one_call(
        make_module(seed).float(),
        data,
        folder,
        accelerator="cpu",
        devices=1 if strategy == "auto" else 2,
        strategy=strategy,
        precision="64-true",
        progress=False,
        callbacks=[order],
    )
    half = len(order.batches) // 2
    return surrogate.state_dict(), [order.batches[:half], order.batches[half:]]


LIMITS = [{"batch_size": 1}, {"max_points": 60}]


def train_on_many_together(folder):
    os.environ["LOCAL_RANK"] = str(dist.get_rank())
    return [
        train_on_many(
            f"{folder}/{points} {number}",
            dist.get_rank(),
            "ddp" if points is None else PointParallelStrategy(points),
            **limits,
        )
        for points in (2, None)
        for number, limits in enumerate(LIMITS)
    ]


def test_the_order_is_that_of_one_process(tmp_path):
    alone = [
        train_on_many(tmp_path / str(number), 0, **limits)
        for number, limits in enumerate(LIMITS)
    ]
    assert all(first != second for _, (first, second) in alone)
    together = run_processes(train_on_many_together, 2, str(tmp_path))
    for results in together:
        for (state, epochs), (expected, order) in zip(results[:2], alone, strict=True):
            assert epochs == order
            torch.testing.assert_close(state, expected, atol=1e-10, rtol=1e-10)
    # Processes with samples of their own take turns; the first ones come once more.
    for (_, first), (_, second), (_, order) in zip(
        together[0][2:], together[1][2:], alone, strict=True
    ):
        for mine, others, whole in zip(first, second, order, strict=True):
            turns = [batch for both in zip(mine, others, strict=True) for batch in both]
            assert turns == whole + whole[: len(turns) - len(whole)]
            assert len(turns) - len(whole) < 2


class Group(NamedTuple):
    """Stands for a process group."""

    place: int
    places: int

    def rank(self):
        return self.place

    def size(self):
        return self.places


def test_shards_are_the_rows_of_every_field_of_points():
    sizes = (3, 1, 6)
    samples = [
        Data(x=torch.rand(n, 3), y=torch.rand(n, 1), mach=float(n), name=f"car {n}")
        for n in sizes
    ]
    whole = Batch.from_data_list(samples)
    shards = [shard_points(whole, Group(rank, 4)) for rank in range(4)]
    assert [shard.num_nodes for shard in shards] == [2, 3, 2, 3]
    for name in ("x", "y", "batch"):
        assert torch.equal(torch.cat([shard[name] for shard in shards]), whole[name])
    for rank, shard in enumerate(shards):
        assert "ptr" not in shard
        assert shard.num_graphs == 3
        assert shard.mach.tolist() == [3.0, 1.0, 6.0]
        assert shard.name == ["car 3", "car 1", "car 6"]
        assert shard.group == Group(rank, 4)
    assert torch.equal(whole.ptr, torch.tensor([0, 3, 4, 10])) and "group" not in whole


def test_a_sample_of_fewer_points_than_processes():
    sample = Data(x=torch.rand(2, 3), num_nodes=2)
    shards = [shard_points(sample, Group(rank, 3)) for rank in range(3)]
    assert [len(shard.x) for shard in shards] == [0, 1, 1]
    assert [shard.num_nodes for shard in shards] == [0, 1, 1]


def test_conditions_are_of_graphs_however_many_points_there_are():
    samples = [Data(x=torch.rand(1, 3), u=torch.rand(1, 2)) for _ in range(3)]
    whole = Batch.from_data_list(samples)
    for rank in range(2):
        assert torch.equal(shard_points(whole, Group(rank, 2)).u, whole.u)


def test_edges_are_refused():
    sample = Data(x=torch.rand(2, 3), edge_index=torch.tensor([[0], [1]]))
    with pytest.raises(ValueError, match="the data has edges"):
        shard_points(sample, Group(0, 2))


@pytest.mark.parametrize("number", [0, 1.5, "a"])
def test_points_must_be_shared_by_some_process(number):
    with pytest.raises(ValueError, match=f"processes_per_sample is {number!r}, expect"):
        PointParallelStrategy(number)


class Deaf(nn.Module):
    def forward(self, x):
        return x


def try_in_vain(folder):
    """What the processes refuse, and what they say."""
    os.environ["LOCAL_RANK"] = str(dist.get_rank())
    samples = make_samples()
    messages = []
    for points, model, loader in (
        (3, None, samples),
        (2, Deaf(), samples),
        (2, None, [sample.x for sample in samples]),
    ):
        module = make_module(0)
        if model is not None:
            module.surrogate.model = model
        with quiet_lightning():
            trainer = Trainer(
                accelerator="cpu",
                devices=2,
                strategy=PointParallelStrategy(points),
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                default_root_dir=folder,
            )
            try:
                trainer.fit(module, DataLoader(loader))
            except ValueError as error:
                messages.append(str(error))
    return messages


def test_what_makes_no_sense_is_refused(tmp_path):
    for messages in run_processes(try_in_vain, 2, str(tmp_path)):
        assert "processes_per_sample=3 does not divide the 2 processes" in messages[0]
        assert "Deaf.forward has no argument group" in messages[1]
        assert "a batch is a Tensor, expected torch_geometric.data.Data" in messages[2]


class Killer(Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def train_until_killed(folder):
    os.environ["LOCAL_RANK"] = str(dist.get_rank())
    data = SurrogateDataModule(make_samples(), batch_size=1)
    with quiet_lightning():
        trainer = Trainer(
            accelerator="cpu",
            devices=2,
            strategy=PointParallelStrategy(2),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            callbacks=[Killer()],
            default_root_dir=folder,
        )
        trainer.fit(make_module(0), data)


def test_a_killed_process_ends_the_training_of_all(tmp_path):
    message = "lost contact with a process of this group of 2"
    with pytest.raises(RuntimeError, match=message) as caught:
        run_processes(train_until_killed, 2, str(tmp_path), timeout=20)
    assert "process 1 ended with exit code -9" in str(caught.value)
