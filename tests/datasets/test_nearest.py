import pytest
import torch

from torch_geometric_flare.datasets.nearest import (
    NearestSample,
    carry_field,
    nearest_sample,
)


def chamfer(a, b):
    distance = torch.cdist(
        a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    return distance.amin(1).mean() + distance.amin(0).mean()


def cloud(n, seed):
    generator = torch.Generator().manual_seed(seed)
    scale = 0.5 + torch.rand(3, generator=generator)
    return torch.rand(n, 3, generator=generator) * scale


def test_agrees_with_brute_force():
    candidates = [cloud(40 + 7 * i, i) for i in range(12)]
    fields = [torch.randn(len(c), 2) for c in candidates]
    model = NearestSample(zip(candidates, fields, strict=True))
    assert len(model) == 12
    seen = set()
    for seed in range(100, 115):
        query = cloud(63, seed)
        expected = int(torch.stack([chamfer(query, c) for c in candidates]).argmin())
        assert model.nearest(query) == expected
        assert nearest_sample(query, candidates) == expected
        copied = fields[expected][torch.cdist(query, candidates[expected]).argmin(1)]
        assert torch.equal(model.predict(query), copied)
        seen.add(expected)
    assert len(seen) > 3


def test_the_distance_counts_both_ways():
    # Each point of the query lies on candidate 0, but half of that is far away.
    query = torch.tensor([[0.0], [1.0]])
    inside = torch.tensor([[0.0], [1.0], [50.0], [51.0]])
    beside = torch.tensor([[0.2], [1.2]])
    assert nearest_sample(query, [inside, beside]) == 1
    assert nearest_sample(query, [beside, query, query]) == 1  # the first of equals


def test_carry_field_takes_the_nearest_value():
    source = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    query = torch.tensor([[0.9, 0.2], [0.1, 0.0], [0.2, 5.0], [1.0, 0.0]])
    field = torch.tensor([10.0, 20.0, 30.0], dtype=torch.float64)
    carried = carry_field(source, field, query)
    assert carried.tolist() == [20.0, 10.0, 30.0, 20.0]
    assert carried.dtype == torch.float64
    columns = carry_field(source, field.view(3, 1), query)
    assert columns.tolist() == [[20.0], [10.0], [30.0], [20.0]]


def test_large_clouds_are_compared_by_a_subset_the_same_every_time():
    candidates = [torch.rand(3000, 3) + shift for shift in (0.0, 0.1, 0.2)]
    query = torch.rand(2500, 3) + 0.12
    picks = {nearest_sample(query, candidates, max_points=50) for _ in range(3)}
    assert picks == {1}


def test_of_large_samples_a_subset_is_kept():
    samples = [(cloud(3000, i), torch.arange(3000.0)) for i in range(3)]
    model = NearestSample(samples, max_kept=100)
    for index, (x, _) in enumerate(samples):
        assert model.nearest(x) == index
        kept = model.predict(x).long()
        assert kept.shape == (3000,)
        # The values stand at the points that they were given for.
        chosen = kept.unique()
        assert len(chosen) == 100
        nearest = torch.cdist(x, x[chosen]).argmin(1)
        assert (chosen[nearest] == kept).float().mean() > 0.999
        assert model._fields[index].untyped_storage().nbytes() == 400


def test_a_training_sample_predicts_itself():
    samples = [(cloud(30, i), torch.randn(30, 1)) for i in range(5)]
    model = NearestSample(samples)
    for x, y in samples:
        assert torch.equal(model.predict(x), y)


def test_errors():
    x, y = torch.rand(4, 3), torch.rand(4, 1)
    with pytest.raises(ValueError, match="samples is empty"):
        NearestSample([])
    with pytest.raises(ValueError, match="candidates is empty"):
        nearest_sample(x, [])
    with pytest.raises(ValueError, match=r"samples\[1\].*\[4, 3\].*\[3, 1\]"):
        NearestSample([(x, y), (x, y[:3])])
    with pytest.raises(ValueError, match="max_points must be positive, got 0"):
        NearestSample([(x, y)], max_points=0)
    with pytest.raises(ValueError, match="max_kept must be positive, got 0"):
        NearestSample([(x, y)], max_kept=0)
    with pytest.raises(ValueError, match="same dimension everywhere, got 2 and 3"):
        NearestSample([(x, y)]).predict(x[:, :2])
    with pytest.raises(ValueError, match="same dimension everywhere"):
        carry_field(x, y, x[:, :2])
    with pytest.raises(ValueError, match="finite"):
        nearest_sample(x / 0, [x])
    with pytest.raises(ValueError, match=r"shape \[0, 3\]"):
        nearest_sample(x[:0], [x])
