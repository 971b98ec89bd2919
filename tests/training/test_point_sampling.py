import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.fabric.utilities.distributed import DistributedSamplerWrapper
from lightning.pytorch import Callback
from torch.utils.data import Subset
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.transforms import FixedPoints

from torch_geometric_flare.training import SurrogateDataModule, fit, read_history
from torch_geometric_flare.training.sampling import (
    PointBatchSampler,
    sample_sizes,
)

GEOMETRIC = [int(736 * (47542 / 736) ** (i / 39)) for i in range(40)]


def epoch_of(sampler, epoch):
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert {e for batch in batches for e, _ in batch} == {epoch}
    return [[index for _, index in batch] for batch in batches]


def pairs(batches):
    return {frozenset((a, b)) for batch in batches for a in batch for b in batch} - {
        frozenset((a,)) for batch in batches for a in batch
    }


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=40),
    max_points=st.integers(1, 100),
    seed=st.integers(0, 1000),
    max_samples=st.none() | st.integers(1, 5),
)
def test_laws(sizes, max_points, seed, max_samples):
    sampler = PointBatchSampler(sizes, max_points, seed, max_samples=max_samples)
    for epoch in range(4):
        batches = epoch_of(sampler, epoch)
        assert len(batches) == len(sampler)
        assert sorted(sum(batches, [])) == list(range(len(sizes)))
        for batch in batches:
            assert sum(sizes[i] for i in batch) <= max_points or len(batch) == 1
            assert max_samples is None or len(batch) <= max_samples


@pytest.mark.parametrize(
    ("sizes", "max_points", "num_batches"),
    [
        ([5] * 10, 10, 5),
        ([5] * 9, 10, 5),
        ([7] * 6, 10, 6),
        ([100, 1, 1, 1], 10, 2),  # a sample past the limit is a batch by itself
        ([3], 10, 1),
        ([10, 10, 10], 1000, 1),
    ],
)
def test_the_number_of_batches(sizes, max_points, num_batches):
    for seed in range(5):
        sampler = PointBatchSampler(sizes, max_points, seed)
        assert len(sampler) == num_batches
        assert len(epoch_of(sampler, 3)) == num_batches


def test_few_points_are_missing_from_full_batches():
    sampler = PointBatchSampler(GEOMETRIC, 50_000, seed=0)
    ideal = sum(GEOMETRIC) / 50_000
    assert ideal <= len(sampler) <= 1.2 * ideal


def test_tight_pairs_fit_in_every_epoch():
    # A random order puts two small samples together and leaves two large ones alone:
    # some need more batches than an epoch has, some fewer.
    sampler = PointBatchSampler([51, 49] * 30, 100, seed=1)
    assert 30 <= len(sampler) <= 34
    needed = {len(sampler._pack(torch.Generator().manual_seed(i), 0)) for i in range(9)}
    assert min(needed) < len(sampler) < max(needed)
    assert {len(epoch_of(sampler, epoch)) for epoch in range(40)} == {len(sampler)}


def test_samples_meet_other_samples_in_each_epoch():
    sampler = PointBatchSampler(GEOMETRIC, 100_000, seed=0)
    met = [pairs(epoch_of(sampler, epoch)) for epoch in range(6)]
    for epoch in range(1, 6):
        assert len(met[0] & met[epoch]) < 0.4 * len(met[0])


def test_the_order_depends_on_seed_and_epoch_alone():
    first, second, other = (
        PointBatchSampler(GEOMETRIC, 60_000, seed=seed) for seed in (0, 0, 1)
    )
    first.set_epoch(3)
    other.set_epoch(3)
    list(second)
    torch.rand(5)
    second.set_epoch(3)
    assert list(first) == list(second)
    assert list(first) != list(other)
    before = torch.get_rng_state()
    list(first)
    assert torch.equal(torch.get_rng_state(), before)


def test_processes_share_out_the_batches_of_an_epoch():
    whole = epoch_of(PointBatchSampler(GEOMETRIC, 60_000, seed=0), 2)
    shares = []
    for rank in (0, 1):
        share = DistributedSamplerWrapper(
            PointBatchSampler(GEOMETRIC, 60_000, seed=0),
            num_replicas=2,
            rank=rank,
            shuffle=False,
        )
        shares.append(epoch_of(share, 2))
    assert len(shares[0]) == len(shares[1]) == -(-len(whole) // 2)
    taken = [batch for both in zip(*shares, strict=True) for batch in both]
    assert taken[: len(whole)] == whole


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 5, 0), "at least one"),
        (([3, -1], 5, 0), "nonnegative"),
        (([3], 0, 0), "max_points is 0, expected a positive integer"),
        (([3], 5, -1), "negative"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PointBatchSampler(*arguments)
    with pytest.raises(ValueError, match="max_samples is 0, expected a positive"):
        PointBatchSampler([3], 5, 0, max_samples=0)


class InMemory(InMemoryDataset):
    def __init__(self, samples):
        super().__init__()
        self.data, self.slices = self.collate(samples)


class OnDisk:
    """Samples that must not be loaded for their sizes."""

    def __init__(self, sizes=None):
        if sizes is not None:
            self.sizes = sizes

    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise AssertionError("a sample was loaded")


def test_sizes_come_from_the_index(samples):
    stored = samples(5, 0)
    expected = [30, 31, 32, 30, 31]
    assert sample_sizes(stored) == expected
    assert sample_sizes(InMemory(stored)) == expected
    assert sample_sizes(InMemory(stored)[1:3]) == [31, 32]
    assert sample_sizes(Subset(stored, [4, 2])) == [31, 32]
    assert sample_sizes(OnDisk([4, 5, 6])) == [4, 5, 6]
    assert len(SurrogateDataModule(OnDisk([4, 5, 6]), max_points=9).train) == 3
    with pytest.raises(ValueError, match="OnDisk does not have the sizes"):
        sample_sizes(OnDisk())


KILLED = "killed"


def run(module, samples, folder, **arguments):
    """Four epochs over unequal samples, with dropout and averaged weights."""
    train = [
        Data(x=d.x.repeat(1 + n % 4, 1), y=d.y.repeat(1 + n % 4, 1))
        for n, d in enumerate(samples(11, 0))
    ]
    data = SurrogateDataModule(
        train,
        samples(3, 1),
        max_points=60,
        sizes=[20] * 11 if "transform" in arguments else None,
        train_transform=arguments.pop("transform", None),
        seed=3,
        num_workers=arguments.pop("num_workers", 0),
    )
    training = module(ema_decay=0.5, epochs=4)
    arguments = {"accelerator": "cpu", "progress": False} | arguments
    return fit(training, data, folder, **arguments), data, training


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        if isinstance(first[name], dict):
            assert_same(first[name], second[name])
        else:
            torch.testing.assert_close(first[name], second[name], atol=0, rtol=0)


@pytest.mark.parametrize(
    "options", [{}, {"num_workers": 2, "transform": FixedPoints(20, replace=False)}]
)
def test_a_killed_training_resumes_to_the_bit(module, samples, tmp_path, options):
    class Killer(Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if trainer.global_step == trainer.num_training_batches + 3:
                raise InterruptedError(KILLED)

    whole, data, _ = run(module, samples, tmp_path / "whole", **options)
    folder = tmp_path / "killed"
    with pytest.raises(InterruptedError, match=KILLED):
        run(module, samples, folder, callbacks=[Killer()], **options)
    torch.rand(7)
    resumed, _, _ = run(module, samples, folder, resume=True, **options)
    assert_same(resumed.state_dict(), whole.state_dict())
    assert read_history(folder) == read_history(tmp_path / "whole")
    content = torch.load(folder / "last.ckpt", weights_only=True)
    assert content["global_step"] == 4 * data.num_batches


def test_the_schedule_ends_with_the_training(module, samples, tmp_path):
    class Rates(Callback):
        def __init__(self):
            self.rates = []

        def on_train_batch_start(self, trainer, *_):
            self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    seen = Rates()
    _, data, training = run(module, samples, tmp_path, callbacks=[seen])
    assert len(seen.rates) == 4 * data.num_batches
    peak = training.recipe.learning_rate
    assert max(seen.rates) == pytest.approx(peak, rel=0.05)
    # One cycle from 1/25 of the peak to 1e-4 of that.
    assert seen.rates[0] == pytest.approx(peak / 25)
    assert seen.rates[-1] == pytest.approx(peak / 25 / 1e4, rel=1e-3)
