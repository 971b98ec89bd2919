import copy
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import Compose, FixedPoints

from torch_geometric_flare.training import SurrogateDataModule, quiet_lightning

SUBSET = FixedPoints(10, replace=False)


def epoch_of(data, epoch):
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return [(b.number.tolist(), b.batch.tolist(), b.x) for b in loader]


def same(first, second):
    return len(first) == len(second) and all(
        a[:2] == b[:2] and torch.equal(a[2], b[2])
        for a, b in zip(first, second, strict=True)
    )


def test_batches_hold_every_sample_once(samples):
    data = SurrogateDataModule(samples(7, 0), batch_size=3)
    batches = epoch_of(data, 0)
    assert data.num_batches == len(data.train_dataloader()) == len(batches) == 3
    assert sorted(sum((numbers for numbers, _, _ in batches), [])) == list(range(7))
    numbers, batch, x = batches[0]
    assert batch == sum(([k] * (30 + n % 3) for k, n in enumerate(numbers)), [])
    assert x.size(0) == len(batch)


def test_a_stock_transform_repeats_with_seed_and_epoch(samples):
    train = samples(7, 0)
    data = SurrogateDataModule(train, batch_size=2, train_transform=SUBSET)
    first = epoch_of(data, 5)
    assert first[0][2].shape == (20, 3)
    torch.rand(9)
    epoch_of(data, 6)
    assert same(epoch_of(data, 5), first)
    assert not same(epoch_of(data, 6), first)
    other = SurrogateDataModule(train, batch_size=2, train_transform=SUBSET, seed=1)
    assert not same(epoch_of(other, 5), first)


def test_workers_change_nothing(samples):
    arguments = {"train": samples(7, 0), "batch_size": 2, "train_transform": SUBSET}
    without = SurrogateDataModule(**arguments)
    loader = SurrogateDataModule(**arguments, num_workers=2).train_dataloader()
    for epoch in (0, 1):  # The workers live on from one epoch to the next.
        loader.sampler.set_epoch(epoch)
        batches = [(b.number.tolist(), b.batch.tolist(), b.x) for b in loader]
        assert same(batches, epoch_of(without, epoch))


def test_loading_draws_nothing_from_the_global_generator(samples):
    data = SurrogateDataModule(samples(4, 0), batch_size=2, train_transform=SUBSET)
    before = torch.get_rng_state()
    epoch_of(data, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluation_is_in_order_and_untransformed(samples):
    data = SurrogateDataModule(
        samples(2, 0), samples(5, 1), samples(3, 2), 2, train_transform=SUBSET
    )
    for loader, split in (
        (data.val_dataloader(), samples(5, 1)),
        (data.test_dataloader(), samples(3, 2)),
    ):
        batches = list(loader)
        assert sum((b.number.tolist() for b in batches), []) == list(range(len(split)))
        assert torch.equal(
            torch.cat([b.x for b in batches]), torch.cat([d.x for d in split])
        )


def test_splits_that_are_not_there(samples):
    data = SurrogateDataModule(samples(2, 0))
    assert data.val_dataloader() == []
    with pytest.raises(ValueError, match="no test split"):
        data.test_dataloader()


def test_state_names_the_next_epoch_and_refuses_other_data(samples):
    data = SurrogateDataModule(samples(4, 0), seed=3)
    epoch_of(data, 6)
    state = data.state_dict()
    assert state == {
        "epoch": 7,
        "seed": 3,
        "batch_size": 1,
        "num_samples": 4,
        "max_points": None,
        "sizes_crc32": None,
        "train_transform": "None",
        "num_replicas": 1,
        "first_and_last_sample": state["first_and_last_sample"],
    }
    resumed = SurrogateDataModule(samples(4, 0), seed=3)
    resumed.load_state_dict(state)
    keys = list(resumed.train_dataloader().sampler)
    assert {epoch for epoch, _ in keys} == {7}
    with pytest.raises(ValueError, match="num_samples=4 but the data has 5"):
        SurrogateDataModule(samples(5, 0), seed=3).load_state_dict(state)
    with pytest.raises(ValueError, match="seed=3 but the data has 0"):
        SurrogateDataModule(samples(4, 0)).load_state_dict(state)


def test_as_many_devices_share_out_the_epochs_as_before(samples):
    data = SurrogateDataModule(samples(4, 0))
    alone = data.state_dict()
    data.trainer = SimpleNamespace(distributed_sampler_kwargs={"num_replicas": 2})
    data.load_state_dict(data.state_dict())
    with pytest.raises(ValueError, match="among 1 devices .* but now it is 2"):
        data.load_state_dict(alone)


class Lazy:
    """Samples with their own random transform, which counts what is read."""

    def __init__(self, samples):
        self.samples, self.read = samples, set()

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        self.read.add(index)
        return SUBSET(copy.copy(self.samples[index]))


@pytest.mark.parametrize("changed", [0, 3])
def test_other_fields_in_as_many_samples_are_other_data(samples, changed):
    train = samples(4, 0)
    state = SurrogateDataModule(Lazy(train)).state_dict()
    torch.rand(3)
    again = Lazy(train)
    SurrogateDataModule(again).load_state_dict(state)
    assert again.read == {0, 3}
    assert "10 points with y of CRC-32" in state["first_and_last_sample"]
    train[changed].y = train[changed].y + 1e-3
    with pytest.raises(ValueError, match="first_and_last_sample=10 points with y"):
        SurrogateDataModule(Lazy(train)).load_state_dict(state)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": []}, "train is empty"),
        ({"batch_size": 0}, "batch_size is 0, expected a positive integer"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"num_workers": -1}, "num_workers must be at least 0, got -1"),
        ({"max_points": 0}, "max_points is 0, expected a positive integer"),
        ({"max_points": "a"}, "max_points is 'a', expected a positive integer"),
        ({"max_points": 1.5}, "max_points is 1.5, expected a positive integer"),
        ({"sizes": [30, 31]}, "sizes is given without max_points"),
        ({"max_points": 99, "sizes": [30]}, "sizes holds 1 numbers for the 2 samples"),
    ],
)
def test_what_makes_no_sense_is_refused(samples, arguments, message):
    with pytest.raises(ValueError, match=message):
        SurrogateDataModule(**({"train": samples(2, 0)} | arguments))


def test_lists_of_splits_are_refused(samples):
    with pytest.raises(TypeError, match=r"val\[0\].*list"):
        SurrogateDataModule(samples(2, 0), [samples(1, 1), samples(1, 2)])
    with pytest.raises(TypeError, match=r"test\[1\].*None"):
        SurrogateDataModule(samples(2, 0), test=[*samples(1, 1), None])


def test_batches_hold_at_most_so_many_points(samples):
    data = SurrogateDataModule(samples(7, 0), samples(3, 1), max_points=95)
    loader = data.train_dataloader()
    assert data.batch_size is None
    assert data.num_batches == len(loader)
    compositions = set()
    for epoch in range(5):
        batches = epoch_of(data, epoch)
        assert len(batches) == len(loader)
        assert sorted(sum((numbers for numbers, _, _ in batches), [])) == list(range(7))
        for numbers, batch, x in batches:
            # 30, 31 or 32 points each: three of them are too many where all have 32.
            assert batch == sum(([k] * (30 + n % 3) for k, n in enumerate(numbers)), [])
            assert len(x) <= 95
        compositions |= {frozenset(frozenset(numbers) for numbers, _, _ in batches)}
    assert len(compositions) == 5
    assert [batch.num_graphs for batch in data.val_dataloader()] == [1, 1, 1]


def test_both_limits_hold(samples):
    data = SurrogateDataModule(samples(9, 0), batch_size=2, max_points=95)
    batches = epoch_of(data, 0)
    assert data.num_batches == 5
    assert max(len(numbers) for numbers, _, _ in batches) == 2


def test_sizes_after_a_transform(samples):
    data = SurrogateDataModule(
        samples(8, 0), train_transform=SUBSET, max_points=40, sizes=[10] * 8
    )
    assert [len(x) for _, _, x in epoch_of(data, 0)] == [40, 40]


def test_workers_change_nothing_in_batches_of_points(samples):
    arguments = {
        "train": samples(7, 0),
        "max_points": 40,
        "train_transform": SUBSET,
        "sizes": [10] * 7,
    }
    without = SurrogateDataModule(**arguments)
    loader = SurrogateDataModule(**arguments, num_workers=2).train_dataloader()
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)
        batches = [(b.number.tolist(), b.batch.tolist(), b.x) for b in loader]
        assert same(batches, epoch_of(without, epoch))


def test_resuming_with_another_limit_or_other_sizes_is_refused(samples):
    state = SurrogateDataModule(samples(4, 0), max_points=70).state_dict()
    SurrogateDataModule(samples(4, 0), max_points=70).load_state_dict(state)
    with pytest.raises(ValueError, match="max_points=70 but the data has 80"):
        SurrogateDataModule(samples(4, 0), max_points=80).load_state_dict(state)
    other = SurrogateDataModule(samples(4, 0), max_points=70, sizes=[30] * 4)
    with pytest.raises(ValueError, match="sizes_crc32="):
        other.load_state_dict(state)


def test_another_transform_is_another_training(samples):
    def load(transform, state=None):
        data = SurrogateDataModule(samples(4, 0), train_transform=transform)
        if state is None:
            return data.state_dict()
        return data.load_state_dict(state)

    state = load(FixedPoints(10, replace=False))
    load(FixedPoints(10, replace=False), state)
    message = r"train_transform=FixedPoints\(10.* but the data has FixedPoints\(20"
    with pytest.raises(ValueError, match=message):
        load(FixedPoints(20, replace=False), state)
    # An object that tells its address alone is taken for the same one.
    load(Lazy.__getitem__, load(Lazy.__getitem__))


@pytest.mark.parametrize("name", ["x", "pos", "edge_index", "area"])
def test_any_other_array_is_other_data(samples, name):
    def data(change):
        train = samples(3, 0)
        for sample in train:
            sample.edge_index = torch.tensor([[0, 1], [1, 2]])
            sample.area = torch.ones(sample.num_nodes, dtype=torch.float64)
            sample.grid = (5, 6)
        train[2][name] = train[2][name] + change
        return SurrogateDataModule(train)

    state = data(0).state_dict()
    data(0).load_state_dict(state)
    with pytest.raises(ValueError, match="first_and_last_sample"):
        data(1).load_state_dict(state)


def test_samples_without_a_field_have_a_fingerprint():
    def state(scale):
        plane = torch.linspace(0, scale, 12).view(6, 2)
        return SurrogateDataModule([Data(pos=plane), Data(pos=plane)]).state_dict()

    (found, other) = (state(scale)["first_and_last_sample"] for scale in (1, 2))
    assert found.startswith("6 points with pos of CRC-32") and found != other


def grid_samples():
    """Three points in a row, with all that names points by their place."""
    return [
        Data(
            x=torch.rand(3, 2),
            pos=torch.rand(3, 2),
            y=torch.rand(3, 1),
            edge_index=torch.tensor([[0, 1], [1, 2]]),
            cells=torch.tensor([[0, 1, 2]]),
            grid=(3, 1),
        )
    ]


class Noise:
    def __call__(self, data):
        data.x = data.x + torch.rand_like(data.x)
        return data


@pytest.mark.parametrize("name", ["edge_index", "cells", "grid"])
@pytest.mark.parametrize("num_points", [2, 3])  # fewer, and all in another order
def test_points_that_something_names_by_place_are_not_drawn(name, num_points):
    (sample,) = grid_samples()
    for other in {"edge_index", "cells", "grid"} - {name}:
        del sample[other]
    transform = FixedPoints(num_points, replace=False)
    data = SurrogateDataModule([sample], train_transform=transform, seed=1)
    message = rf"the sample has {name}, .* FixedPoints\({num_points}, .*delete {name}"
    with pytest.raises(ValueError, match=message):
        list(data.train_dataloader())


def test_transforms_that_keep_the_points_or_replace_the_edges_are_taken():
    data = SurrogateDataModule(grid_samples(), train_transform=Noise())
    (batch,) = data.train_dataloader()
    assert batch.edge_index.tolist() == [[0, 1], [1, 2]]
    assert sorted(batch.keys()) == sorted([*grid_samples()[0].keys(), "batch", "ptr"])
    (sample,) = grid_samples()
    del sample["cells"], sample["grid"]
    drawn = Compose([FixedPoints(2, replace=False), Chain()])
    (batch,) = SurrogateDataModule([sample], train_transform=drawn).train_dataloader()
    assert batch.num_nodes == 2 and batch.edge_index.tolist() == [[0], [1]]


class Chain:
    def __call__(self, data):
        places = torch.arange(data.num_nodes)
        data.edge_index = torch.stack([places[:-1], places[1:]])
        return data


def test_edges_reach_the_points_of_their_own_graph():
    train = grid_samples() * 2
    (batch,) = SurrogateDataModule(train, batch_size=2).train_dataloader()
    assert isinstance(batch, Batch)
    assert batch.edge_index.tolist() == [[0, 1, 3, 4], [1, 2, 4, 5]]


@pytest.mark.filterwarnings("ignore:You requested to overfit:UserWarning")
@pytest.mark.parametrize("limits", [{"batch_size": 2}, {"max_points": 70}])
def test_a_trainer_that_overfits_repeats_the_same_batch(
    module, samples, tmp_path, limits
):
    seen = []

    class Recorder(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            seen.append(batch.number.tolist())

    data = SurrogateDataModule(samples(5, 0), samples(2, 1), **limits)
    with quiet_lightning():
        trainer = Trainer(
            accelerator="cpu",
            overfit_batches=1,
            max_epochs=3,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
            callbacks=[Recorder()],
        )
        trainer.fit(module(), data)
    first = [0, 1] if "batch_size" in limits else [0]
    assert seen == [first] * 3


@pytest.mark.parametrize("options", [{}, {"max_points": 80}])
def test_batches_are_made_on_the_cpu_whatever_the_default_device(samples, options):
    split = samples(6, 0)

    def batches():
        data = SurrogateDataModule(split, batch_size=2, seed=3, **options)
        return list(data.train_dataloader())

    expected = batches()
    # Of this device, no number can be read: what is put there shows.
    with torch.device("meta"):
        found = batches()
    for one, other in zip(found, expected, strict=True):
        for name in ("x", "y", "batch", "ptr"):
            assert torch.equal(one[name], other[name])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_samples_without_weight_have_equal_points_in_any_batch(order):
    weighted = Data(pos=torch.randn(3, 2), weight=torch.tensor([0.5, 1, 2]))
    both = [weighted, Data(pos=torch.randn(2, 2))]
    data = SurrogateDataModule(both, test=[both[i] for i in order], batch_size=2)
    (batch,) = data.test_dataloader()
    parts = [torch.tensor([0.5, 1, 2]), torch.ones(2)]
    assert torch.equal(batch.weight, torch.cat([parts[i] for i in order]))
    assert "weight" not in both[1]


def test_a_sample_that_lacks_an_array_is_named(samples):
    split = samples(4, 0)
    del split[2].y
    data = SurrogateDataModule(split, val=split, batch_size=4)
    with pytest.raises(ValueError, match="sample 2 .*'y'"):
        list(data.val_dataloader())
