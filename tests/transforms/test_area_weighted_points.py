import pytest
import torch
from torch_geometric.data import Batch, Data

from torch_geometric_flare.transforms import AreaWeightedPoints


def sample(areas, **more):
    area = torch.tensor(areas, dtype=torch.float64)
    size = len(area)
    pos = torch.arange(3.0 * size).view(size, 3)
    return Data(pos=pos, area=area, number=torch.arange(size), **more)


def mean_and_error(values):
    """Mean of rows and its standard error."""
    values = torch.stack(values)
    return values.mean(0), values.std(0) / len(values) ** 0.5


@pytest.mark.parametrize("replace", [False, True])
def test_sums_over_the_subset_are_unbiased(replace):
    areas = [0.5, 3.0, 0.0, 1.0, 0.2, 8.0, 1.0, 1.3]
    data = sample(areas, field=torch.randn(8, dtype=torch.float64))
    draw = AreaWeightedPoints(4, replace)
    sums, counts = [], []
    for _ in range(4000):
        part = draw(data)
        sums.append((part.area * part.field).sum())
        counts.append(torch.bincount(part.number, minlength=8).double())
        assert part.area.sum().item() == pytest.approx(sum(areas), rel=1e-12)
        assert part.num_nodes == 4
    mean, error = mean_and_error(sums)
    assert abs(mean - (data.area * data.field).sum()) < 4 * error
    # How often each point is drawn: the area over that of a draw, or always.
    expected = 4 * data.area / 15
    if not replace:
        # 8 of 15 exceeds a quarter; 3 of the other 7, a third; 4 is left for two draws.
        expected = torch.tensor(areas).double() / 2
        expected[[1, 5]] = 1
    mean, error = mean_and_error(counts)
    assert (abs(mean - expected) <= 4 * error + 1e-12).all()


def test_areas_of_points_without_replacement():
    part = AreaWeightedPoints(4)(sample([0.5, 3.0, 0.0, 1.0, 0.2, 8.0, 1.0, 1.3]))
    assert part.number.unique().tolist() == part.number.tolist()  # in order, distinct
    stands_for = dict(zip(part.number.tolist(), part.area.tolist(), strict=True))
    assert (stands_for.pop(5), stands_for.pop(1)) == (8.0, 3.0)
    assert list(stands_for.values()) == pytest.approx([2.0, 2.0])


def test_equal_areas_are_a_plain_subset():
    part = AreaWeightedPoints(25)(sample([2.0] * 100))
    assert len(part.number.unique()) == 25
    assert part.number.diff().min() == 1  # no regular pattern: any two may be drawn
    assert part.area.tolist() == pytest.approx([8.0] * 25)


@pytest.mark.parametrize("num_points", [3, 4, 100])
def test_fewer_points_than_wanted_are_all_kept(num_points):
    part = AreaWeightedPoints(num_points)(sample([1.0, 0.0, 5.0, 2.0]))
    assert part.number.tolist() == [0, 2, 3]
    assert part.area.tolist() == [1.0, 5.0, 2.0]
    part = AreaWeightedPoints(num_points, replace=True)(sample([1.0, 0.0, 5.0, 2.0]))
    assert part.num_nodes == num_points
    assert 1 not in part.number


def test_everything_per_point_is_carried_and_the_sample_stays():
    data = sample([1.0] * 50, x=torch.rand(50, 4), y=torch.rand(50, 1), name="car")
    data.area = data.area.float().unsqueeze(1)
    data.run = torch.tensor([7])
    before = data.clone()
    part = AreaWeightedPoints(20)(data)
    assert part.area.shape == (20, 1) and part.area.dtype == torch.float32
    for name in ("x", "y", "pos"):
        assert part[name].equal(data[name][part.number])
    assert (part.name, part.run.tolist(), part.num_nodes) == ("car", [7], 20)
    for name, value in before.to_dict().items():
        assert data[name] is value or torch.equal(torch.as_tensor(data[name]), value)


def test_edges_are_those_between_drawn_points():
    edge_index = torch.randint(0, 30, (2, 200))
    data = sample((torch.rand(30) + 0.1).tolist(), edge_index=edge_index)
    data.edge_attr = torch.arange(200.0)
    part = AreaWeightedPoints(12)(data)
    kept = set(part.number.tolist())
    expected = [
        (i, j, k)
        for k, (i, j) in enumerate(edge_index.t().tolist())
        if i in kept and j in kept
    ]
    source, target = part.number[part.edge_index].tolist()
    found = list(zip(source, target, part.edge_attr.tolist(), strict=True))
    assert expected and found == expected


def test_it_depends_on_the_global_generator_alone():
    draw, data = AreaWeightedPoints(5), sample(torch.rand(40).tolist())
    parts = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        parts.append(draw(data).number.tolist())
    assert parts[0] == parts[1] != parts[2]


def test_a_million_points_of_very_different_area():
    area = torch.rand(1_000_000).pow(8) + 1e-12
    data = Data(pos=area, area=area, number=torch.arange(len(area)))
    part = AreaWeightedPoints(10_000)(data)
    assert len(part.number.unique()) == 10_000
    assert part.area.double().sum().item() == pytest.approx(
        area.double().sum().item(), rel=1e-6
    )


@pytest.mark.parametrize(
    ("change", "replace", "message"),
    [
        ({"cells": torch.tensor([[0, 1, 2]])}, False, "has cells, .* without replacem"),
        ({"face": torch.tensor([[0], [1], [2]])}, False, "the sample has face"),
        ({"grid": (2, 2)}, True, "delete data.grid first"),
        (
            {"edge_index": torch.tensor([[0], [1]])},
            True,
            "has edge_index, .* drawn with",
        ),
        ({"area": None}, False, "the sample has no `area`"),
        (
            {"area": torch.ones(4, 2)},
            False,
            r"area has shape \(4, 2\), expected \(4,\)",
        ),
        ({"area": torch.tensor([1.0, -1, 1, 1])}, False, "from -1.0 to 1.0"),
        ({"area": torch.zeros(4)}, False, "from 0.0 to 0.0"),
        (
            {"area": torch.tensor([1.0, float("nan"), 1, 1])},
            False,
            "area must be finite",
        ),
    ],
)
def test_what_is_refused(change, replace, message):
    data = sample([1.0, 2.0, 3.0, 4.0])
    for name, value in change.items():
        data[name] = value
    with pytest.raises(ValueError, match=message):
        AreaWeightedPoints(2, replace)(data)


def test_batches_and_counts_are_refused():
    batch = Batch.from_data_list([sample([1.0, 2.0])] * 2)
    with pytest.raises(ValueError, match="data is a batch"):
        AreaWeightedPoints(2)(batch)
    with pytest.raises(ValueError, match="num_points must be at least 1, got 0"):
        AreaWeightedPoints(0)
    empty = Data(pos=torch.zeros(0, 3), area=torch.zeros(0))
    with pytest.raises(ValueError, match="no points to draw"):
        AreaWeightedPoints(1)(empty)
    assert repr(AreaWeightedPoints(9)) == "AreaWeightedPoints(9, replace=False)"


@pytest.mark.parametrize("replace", [False, True])
def test_areas_that_are_integers(replace):
    data = Data(pos=torch.rand(5, 3), area=torch.tensor([1, 1, 2, 3, 3]))
    drawn = AreaWeightedPoints(4, replace)(data)
    assert drawn.area.dtype == torch.float32
    torch.testing.assert_close(drawn.area.sum(), torch.tensor(10.0))


@pytest.mark.parametrize("replace", [False, True])
def test_weights_stay_with_areas(replace):
    area = torch.rand(50) ** 4
    data = Data(pos=torch.rand(50, 3), area=area, weight=3 * area)
    drawn = AreaWeightedPoints(20, replace)(data)
    torch.testing.assert_close(drawn.weight, 3 * drawn.area)
    torch.testing.assert_close(drawn.weight.sum(), data.weight.sum())


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_integer_weights_become_fractions(shape):
    weight = torch.ones(shape, dtype=torch.long)
    data = Data(pos=torch.randn(4, 3), area=torch.ones(4), weight=weight)
    drawn = AreaWeightedPoints(3)(data)
    torch.testing.assert_close(drawn.weight, torch.full((3, *shape[1:]), 4 / 3))
