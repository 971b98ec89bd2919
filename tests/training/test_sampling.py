import random

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_flare.training.sampling import (
    EpochSampler,
    SeededDataset,
    seed_epoch,
)


def draws():
    return [torch.rand(1).item(), float(np.random.rand()), random.random()]


def draw_three(data):
    data.draws = draws()
    return data


def test_each_sample_once_an_epoch_in_an_order_of_its_own():
    sampler = EpochSampler(50, seed=0, shuffle=True)
    orders = []
    for epoch in (0, 1, 2):
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert {key[0] for key in keys} == {epoch}
        orders.append([key[1] for key in keys])
        assert sorted(orders[-1]) == list(range(50))
    assert orders[0] != orders[1] != orders[2]
    assert len(sampler) == 50


def test_the_order_depends_on_seed_and_epoch_alone():
    first, second, other = (
        EpochSampler(50, seed=seed, shuffle=True) for seed in (0, 0, 1)
    )
    first.set_epoch(3)
    other.set_epoch(3)
    list(second)
    torch.rand(5)
    second.set_epoch(3)
    assert list(first) == list(second)
    assert list(first) != list(other)


def test_without_shuffling_every_pass_is_the_same():
    sampler = EpochSampler(3, seed=0, shuffle=False)
    sampler.set_epoch(5)
    assert list(sampler) == [(0, 0), (0, 1), (0, 2)]


def test_a_transform_depends_on_seed_epoch_and_index_alone():
    samples = [Data(), Data()]
    dataset = SeededDataset(samples, seed=0, transform=draw_three)
    first = dataset[4, 1].draws
    torch.rand(3)
    np.random.rand(3)
    assert dataset[4, 1].draws == first
    assert SeededDataset(samples, 0, draw_three)[4, 1].draws == first
    others = [dataset[4, 0].draws, dataset[5, 1].draws]
    others.append(SeededDataset(samples, 1, draw_three)[4, 1].draws)
    for other in others:
        assert not set(other) & set(first)


def test_the_stored_sample_stays_as_it_is():
    samples = [Data()]
    SeededDataset(samples, 0, draw_three)[0, 0]
    assert "draws" not in samples[0]


def test_the_generators_outside_stay_as_they_are():
    dataset = SeededDataset([Data()], seed=0, transform=draw_three)

    def after(action):
        for seeded in (torch.manual_seed, np.random.seed, random.seed):
            seeded(1)
        action()
        return draws()

    assert after(lambda: dataset[0, 0]) == after(lambda: None)


def test_an_epoch_has_random_numbers_of_its_own():
    drawn = {}
    for key in [(0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1)]:
        seed_epoch(*key)
        drawn[key] = draws()
    seed_epoch(0, 1, 0)
    assert draws() == drawn[0, 1, 0]
    assert len({value for values in drawn.values() for value in values}) == 12


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError):
        seed_epoch(-1, 0)
