from types import SimpleNamespace

import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_flare.training import Surrogate, compare_with_baselines
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


class Elsewhere(Data):
    """Notes where it is sent."""

    def to(self, device):
        self.device = device
        return self


def test_predicts_where_the_surrogate_is_and_moves_no_sample():
    class OnAnotherDevice:
        target_normalizer = SimpleNamespace(
            shift=SimpleNamespace(device="abacus", cpu=lambda: torch.tensor([20.0]))
        )

        def predict(self, data):
            assert data.device == "abacus"
            return data.y

    test = [Elsewhere(**shifted(0.1, 8.0).to_dict())]
    found = compare_with_baselines(OnAnotherDevice(), [shifted(0.0, 10.0)], test)
    assert found.relative_l2.tolist() == [0.0]
    assert "device" not in test[0]
