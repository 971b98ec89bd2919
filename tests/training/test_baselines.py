import pytest
import torch
from torch import nn
from torch_geometric.data import Data

from torch_geometric_flare.fields import Field
from torch_geometric_flare.surrogates import Surrogate
from torch_geometric_flare.training import compare_with_baselines
from torch_geometric_flare.transforms import Normalizer


def shifted(offset, value):
    x = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]) + offset
    return Data(x=x, y=torch.full((2, 1), value))


def test_errors_by_hand(pointwise):
    train = [shifted(0.0, 10.0), shifted(5.0, 30.0)]
    test = [shifted(0.1, 8.0), shifted(4.8, 40.0)]
    surrogate = Surrogate(pointwise(), Normalizer.gaussian(d.y for d in train))
    for parameter in surrogate.model.parameters():
        torch.nn.init.zeros_(parameter)  # so that it predicts the mean as well
    found = compare_with_baselines(surrogate, train, test)
    mean = torch.tensor([12 / 8, 20 / 40])
    torch.testing.assert_close(found.relative_l2.float(), mean)
    torch.testing.assert_close(found.relative_l2_of_training_mean.float(), mean)
    nearest = found.relative_l2_of_nearest_training_sample
    torch.testing.assert_close(nearest.float(), torch.tensor([2 / 8, 10 / 40]))
    assert torch.equal(found.predictions[0], torch.full((2, 1), 20.0))
    assert found.mean_errors() == pytest.approx(
        {
            "relative_l2": 1.0,
            "relative_l2_of_training_mean": 1.0,
            "relative_l2_of_nearest_training_sample": 0.25,
        }
    )
    with pytest.raises(ValueError, match="test is empty"):
        compare_with_baselines(surrogate, train, [])


def test_samples_are_left_as_they_are(pointwise):
    def cloud(value):
        return Data(pos=torch.rand(3, 3), y=torch.full((3, 1), value))

    train, test = [cloud(1.0), cloud(2.0)], [cloud(3.0)]
    before = [dict(data.to_dict()) for data in train + test]
    bounds = Normalizer.from_bounds([0.0] * 3, [1.0] * 3)
    surrogate = Surrogate(pointwise(), Normalizer([2.0], [1.0]), bounds)
    found = compare_with_baselines(surrogate, train, test)
    assert found.relative_l2_of_training_mean.tolist() == pytest.approx([1 / 2])
    for data, kept in zip(train + test, before, strict=True):
        assert data.to_dict().keys() == kept.keys() == {"pos", "y"}
        assert all(data[name] is value for name, value in kept.items())
    with pytest.raises(ValueError, match="x must be finite .* got no x"):
        compare_with_baselines(surrogate, [Data(y=torch.ones(1, 1))], test)


def test_points_weigh_what_they_stand_for_and_gaps_are_left_out(pointwise):
    train = [shifted(0.0, 10.0), shifted(5.0, 30.0)]
    surrogate = Surrogate(
        pointwise(), Normalizer([20.0] * 1, [1.0]), fields=(Field("pressure", 1),)
    )
    for parameter in surrogate.model.parameters():
        torch.nn.init.zeros_(parameter)  # predicts 20 everywhere
    data = Data(x=torch.zeros(3, 3), y=torch.tensor([[10.0], [40.0], [torch.nan]]))
    data.area = torch.tensor([[3.0], [1.0], [7.0]])
    with pytest.warns(UserWarning, match="pressure.* 1 values"):
        found = compare_with_baselines(surrogate, train, [data])
    plain = ((10**2 + 20**2) / (10**2 + 40**2)) ** 0.5
    weighted = ((3 * 10**2 + 20**2) / (3 * 10**2 + 40**2)) ** 0.5
    errors = found.mean_errors()
    assert errors["relative_l2"] == pytest.approx(plain)
    assert errors["area_weighted_relative_l2"] == pytest.approx(weighted)
    still = Data(x=torch.zeros(2, 3), y=torch.zeros(2, 1), weight=torch.ones(2))
    with pytest.warns(UserWarning):
        found = compare_with_baselines(surrogate, train, [data, still])
    assert found.mean_errors()["area_weighted_relative_l2"] == pytest.approx(weighted)
    with pytest.warns(UserWarning, match="zero at every point"):
        found = compare_with_baselines(surrogate, train, [still])
    assert "area_weighted_relative_l2" not in found.mean_errors()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_predicts_where_the_surrogate_is(pointwise):
    train = [shifted(0.0, 10.0), shifted(5.0, 30.0)]
    test = [shifted(0.1, 8.0)]
    surrogate = Surrogate(pointwise(), Normalizer.gaussian(d.y for d in train))
    expected = compare_with_baselines(surrogate, train, test).mean_errors()
    found = compare_with_baselines(surrogate.to("cuda"), train, test)
    assert found.mean_errors() == pytest.approx(expected, rel=1e-5)
    assert found.relative_l2.device == found.predictions[0].device == test[0].x.device


class FirstChannel(nn.Module):
    def forward(self, x):
        return x[:, :1]


class Constant(nn.Module):
    """Predicts the training mean."""

    def forward(self, x):
        return x.new_zeros(len(x), 3)


def test_several_fields_by_hand():
    def sample(offset, pressure, shear):
        data = shifted(offset, 0.0)
        data.y = torch.tensor([[pressure, shear, 0.0]] * 2)
        return data

    train = [sample(0.0, 10.0, 0.1), sample(5.0, 30.0, 0.3)]
    test = [sample(0.1, 8.0, 0.4), sample(4.8, 40.0, 0.2)]
    surrogate = Surrogate(
        Constant(),
        Normalizer([20.0, 0.2, 0.0], [1.0, 1.0, 1.0]),
        fields=(Field("pressure", 1, "Pa"), Field("shear", 2, "Pa")),
    )
    found = compare_with_baselines(surrogate, train, test)
    pressure, shear = torch.tensor([12 / 8, 20 / 40]), torch.tensor([0.5, 0.0])
    of_pressure, of_shear = found.per_field["pressure"], found.per_field["shear"]
    torch.testing.assert_close(of_pressure["relative_l2"], pressure)
    torch.testing.assert_close(of_shear["relative_l2"], shear, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.relative_l2, (pressure + shear) / 2)
    assert found.mean_errors() == pytest.approx(
        {
            "relative_l2": 0.625,
            "relative_l2_of_training_mean": 0.625,
            "relative_l2_of_nearest_training_sample": (0.25 + 0.25 + 0.75 + 0.5) / 4,
            "relative_l2_pressure": 1.0,
            "relative_l2_of_training_mean_pressure": 1.0,
            "relative_l2_of_nearest_training_sample_pressure": 0.25,
            "relative_l2_shear": 0.25,
            "relative_l2_of_training_mean_shear": 0.25,
            "relative_l2_of_nearest_training_sample_shear": 0.625,
        }
    )


def test_features_tell_samples_on_one_grid_apart():
    """Where all samples have the same coordinates, shapes are the features."""

    def sample(permeability, value):
        data = shifted(0.0, value)
        data.x = torch.cat([data.x, torch.full((2, 1), permeability)], dim=1)
        return data

    train = [sample(1.0, 10.0), sample(3.0, 30.0)]
    surrogate = Surrogate(
        FirstChannel(),
        Normalizer([20.0], [1.0]),
        features=(Field("permeability", 1, "m²"),),
        input_normalizer=Normalizer.cat(
            [
                Normalizer.identity(3),
                Normalizer.gaussian(data.x[:, 3:] for data in train),
            ]
        ),
    )
    found = compare_with_baselines(surrogate, train, [sample(2.9, 40.0)])
    assert found.relative_l2_of_nearest_training_sample.item() == pytest.approx(0.25)
