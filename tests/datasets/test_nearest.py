import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_flare.datasets.baselines import NearestSample


def chamfer(a, b):
    distance = torch.cdist(
        a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    return distance.amin(1).mean() + distance.amin(0).mean()


def cloud(n, seed):
    generator = torch.Generator().manual_seed(seed)
    scale = 0.5 + torch.rand(3, generator=generator)
    return torch.rand(n, 3, generator=generator) * scale


def shapes(points):
    """Samples of these points, with a target of zeros."""
    return [Data(x=x, y=torch.zeros(len(x), 1)) for x in points]


def test_agrees_with_brute_force():
    candidates = [cloud(40 + 7 * i, i) for i in range(12)]
    fields = [torch.randn(len(c), 2) for c in candidates]
    pairs = zip(candidates, fields, strict=True)
    model = NearestSample(Data(x=x, y=y) for x, y in pairs)
    assert len(model) == 12
    seen = set()
    for seed in range(100, 115):
        query = cloud(63, seed)
        expected = int(torch.stack([chamfer(query, c) for c in candidates]).argmin())
        assert model.nearest(Data(x=query)) == expected
        copied = fields[expected][torch.cdist(query, candidates[expected]).argmin(1)]
        assert torch.equal(model.predict(Data(x=query)), copied)
        seen.add(expected)
    assert len(seen) > 3


def test_the_distance_counts_both_ways():
    # Each point of the query lies on candidate 0, but half of that is far away.
    query = torch.tensor([[0.0], [1.0]])
    inside = torch.tensor([[0.0], [1.0], [50.0], [51.0]])
    beside = torch.tensor([[0.2], [1.2]])
    assert NearestSample(shapes([inside, beside])).nearest(Data(x=query)) == 1
    equals = NearestSample(shapes([beside, query, query]))
    assert equals.nearest(Data(x=query)) == 1  # the first of equals


def test_each_point_takes_the_value_of_the_nearest():
    source = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    query = Data(x=torch.tensor([[0.9, 0.2], [0.1, 0.0], [0.2, 5.0], [1.0, 0.0]]))
    field = torch.tensor([10.0, 20.0, 30.0], dtype=torch.float64)
    carried = NearestSample([Data(x=source, y=field)]).predict(query)
    assert carried.tolist() == [20.0, 10.0, 30.0, 20.0]
    assert carried.dtype == torch.float64
    columns = NearestSample([Data(x=source, y=field.view(3, 1))]).predict(query)
    assert columns.tolist() == [[20.0], [10.0], [30.0], [20.0]]


def test_large_clouds_are_compared_by_a_subset_the_same_every_time():
    candidates = [torch.rand(3000, 3) + shift for shift in (0.0, 0.1, 0.2)]
    query = torch.rand(2500, 3) + 0.12
    models = [NearestSample(shapes(candidates), max_points=50) for _ in range(3)]
    assert {model.nearest(Data(x=query)) for model in models} == {1}


def test_of_large_samples_a_subset_is_kept():
    samples = [Data(x=cloud(3000, i), y=torch.arange(3000.0)) for i in range(3)]
    model = NearestSample(samples, max_kept=100)
    for index, data in enumerate(samples):
        assert model.nearest(data) == index
        x, kept = data.x, model.predict(data).long()
        assert kept.shape == (3000,)
        # The values stand at the points that they were given for.
        chosen = kept.unique()
        assert len(chosen) == 100
        nearest = torch.cdist(x, x[chosen]).argmin(1)
        assert (chosen[nearest] == kept).float().mean() > 0.999
        assert model._targets[index].untyped_storage().nbytes() == 400


def test_a_training_sample_predicts_itself():
    samples = [Data(x=cloud(30, i), y=torch.randn(30, 1)) for i in range(5)]
    model = NearestSample(samples)
    for data in samples:
        assert torch.equal(model.predict(data), data.y)


def on_a_grid(coefficient, value, grid=(2, 3)):
    """A sample on a fixed 2-D grid, whose coefficient is its only difference."""
    pos = torch.cartesian_prod(torch.arange(2.0), torch.arange(3.0))
    x = torch.column_stack([pos, torch.tensor(coefficient)])
    y = value + torch.arange(6.0).view(6, 1)
    return Data(x=x, pos=pos, y=y, grid=grid)


# As point clouds all three hold the same coefficients far from any other.
COEFFICIENTS = ([3.0] * 3 + [12.0] * 3, [12.0] * 3 + [3.0] * 3, [3.0, 12.0] * 3)


@pytest.mark.parametrize("key", ["grid", "pos"])
def test_points_that_correspond_are_compared_one_by_one(key):
    samples = [on_a_grid(c, 10.0 * i) for i, c in enumerate(COEFFICIENTS)]
    for data in samples:
        del data["pos" if key == "grid" else "grid"]
    model = NearestSample(samples)
    for index, coefficient in enumerate(COEFFICIENTS):
        query = on_a_grid([c + 0.5 for c in coefficient], 0.0)
        del query["pos" if key == "grid" else "grid"]
        assert model.nearest(query) == index
        # Copied, although a point of another row may lie nearer.
        assert torch.equal(model.predict(query), samples[index].y)
    model.predict(query).zero_()
    assert torch.equal(model.predict(query), samples[2].y)


def test_a_grid_that_is_deformed_corresponds_too():
    straight = on_a_grid([0.0] * 6, 0.0)
    moved = on_a_grid([0.0] * 6, 100.0)
    moved.x = moved.x + torch.tensor([5.0, 0.0, 0.0])
    moved.pos = moved.x[:, :2]
    query = on_a_grid([0.0] * 6, 0.0)
    query.x = query.x + torch.tensor([3.0, 0.0, 0.0])
    query.pos = query.x[:, :2]
    prediction = NearestSample([straight, moved]).predict(query)
    assert torch.equal(prediction, moved.y)


def test_samples_of_other_points_are_clouds():
    # By row, the second lies farther from the query than the first.
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    samples = [Data(x=x + 0.2, pos=x + 0.2, y=torch.zeros(3, 1))]
    samples.append(Data(x=x.flip(0), pos=x.flip(0), y=torch.arange(3.0).view(3, 1)))
    query = Data(x=x, pos=x)
    model = NearestSample(samples)
    assert model.nearest(query) == 1
    assert model.predict(query).tolist() == [[2.0], [1.0], [0.0]]
    # One alone corresponds to itself, but not to a query of other points.
    prediction = NearestSample(samples[1:]).predict(query)
    assert prediction.tolist() == [[2.0], [1.0], [0.0]]


def test_errors():
    x, y = torch.rand(4, 3), torch.rand(4, 1)
    data = Data(x=x, y=y)
    with pytest.raises(ValueError, match="samples is empty"):
        NearestSample([])
    with pytest.raises(ValueError, match=r"samples\[1\].*\[4, 3\].*\[3, 1\]"):
        NearestSample([data, Data(x=x, y=y[:3])])
    with pytest.raises(ValueError, match=r"samples\[0\].*y of shape None"):
        NearestSample([Data(x=x)])
    with pytest.raises(ValueError, match="max_points must be positive, got 0"):
        NearestSample([data], max_points=0)
    with pytest.raises(ValueError, match="max_kept must be positive, got 0"):
        NearestSample([data], max_kept=0)
    with pytest.raises(ValueError, match="same channels in all samples, got 2 and 3"):
        NearestSample([data]).predict(Data(x=x[:, :2]))
    with pytest.raises(ValueError, match="same channels in all samples, got 2 and 3"):
        NearestSample([data, Data(x=x[:, :2], y=y)])
    with pytest.raises(ValueError, match="finite"):
        NearestSample([data]).nearest(Data(x=x / 0))
    with pytest.raises(ValueError, match=r"got \[0, 3\]"):
        NearestSample([data]).nearest(Data(x=x[:0]))
    with pytest.raises(ValueError, match="got no x"):
        NearestSample([data]).nearest(Data(pos=x))


def with_conditions(x, *u):
    pos = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    return Data(x=pos + x, pos=pos + x, y=torch.zeros(2, 1), u=torch.tensor([u]))


@pytest.mark.parametrize("moved", [0.0, 1e-3])
def test_conditions_count_in_units_of_their_deviation(moved):
    """Of points that correspond, and of clouds."""
    samples = [
        with_conditions(index * moved, speed, 300.0, angle)
        for index, (speed, angle) in enumerate([(10.0, 0.0), (10.0, 4.0), (90.0, 0.0)])
    ]
    model = NearestSample(samples)
    # The deviations are about 38 and 1.9: 30 of the speed count less than 3 degrees.
    assert model.nearest(with_conditions(0.0, 40.0, 300.0, 3.5)) == 1
    assert model.nearest(with_conditions(0.0, 40.0, 300.0, 0.5)) == 0
    assert model.nearest(with_conditions(0.0, 60.0, 300.0, 0.5)) == 2
    # What is the same in all training samples does not count.
    assert model.nearest(with_conditions(0.0, 60.0, 9e9, 0.5)) == 2
    with pytest.raises(ValueError, match="u must have 3 columns.* got 0"):
        model.nearest(Data(x=samples[0].x, pos=samples[0].pos))
    with pytest.raises(ValueError, match="u must have the same columns"):
        NearestSample([samples[0], with_conditions(0.0, 1.0)])


def test_conditions_and_points_count_together():
    samples = [with_conditions(0.0, 1.0), with_conditions(4.0, -1.0)]
    model = NearestSample(samples)  # a deviation of one
    assert model.nearest(with_conditions(1.0, -1.0)) == 0
    assert model.nearest(with_conditions(1.9, -1.0)) == 1
