import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data

from torch_geometric_flare.training import Surrogate
from torch_geometric_flare.transforms import Normalizer


class FirstChannel(nn.Module):
    def forward(self, x):
        return x[:, :1]


TARGET = Normalizer([100.0], [10.0])
BOUNDS = Normalizer.from_bounds([0.0, 0.0, 0.0], [2.0, 4.0, 4.0])


def test_output_is_decoded():
    surrogate = Surrogate(FirstChannel(), TARGET)
    prediction = surrogate.predict(Data(x=torch.tensor([[0.5, 9.0], [-1.0, 9.0]])))
    assert prediction.tolist() == [[105.0], [90.0]]


def test_positions_are_encoded_where_they_are_all_there_is():
    surrogate = Surrogate(FirstChannel(), TARGET, BOUNDS)
    pos = torch.tensor([[1.0, 4.0, 4.0]])
    sample = Data(pos=pos)
    assert surrogate.predict(pos).tolist() == [[105.0]]
    assert surrogate.predict(sample).tolist() == [[105.0]]
    assert "x" not in sample
    assert surrogate.predict(Data(pos=pos, x=torch.ones(1, 3))).tolist() == [[110.0]]
    batch = Batch.from_data_list([sample, sample])
    assert surrogate.predict(batch).tolist() == [[105.0], [105.0]]


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(1))

    def forward(self, x, batch, names=None):
        assert x.dtype == self.factor.dtype
        assert batch.dtype == torch.long
        return x[:, :1] * self.factor


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("given", [torch.float64, torch.float32])
def test_fields_enter_in_the_dtype_of_the_parameters(dtype, given):
    surrogate = Surrogate(Scaled(), Normalizer([100.25], [10.0])).to(dtype)
    sample = Data(x=torch.ones(2, 3, dtype=given), batch=torch.zeros(2).long())
    sample.names = ["a", "b"]
    prediction = surrogate.predict(sample)
    assert sample.x.dtype == given
    # Neither is 110.25 a number of half precision.
    assert prediction.tolist() == [[110.25], [110.25]]
    assert prediction.dtype == torch.promote_types(dtype, torch.float32)


def test_missing_input_is_named():
    with pytest.raises(ValueError, match="needs the field 'x'"):
        Surrogate(FirstChannel(), TARGET).predict(torch.ones(1, 3))
    with pytest.raises(ValueError, match="needs the field 'x'"):
        Surrogate(FirstChannel(), TARGET, BOUNDS).predict(Data(y=torch.ones(1, 1)))


def test_predict_evaluates_without_gradients_and_forward_has_them(pointwise):
    surrogate = Surrogate(pointwise(), TARGET, BOUNDS).train()
    pos = torch.rand(50, 3, requires_grad=True)
    assert not torch.equal(surrogate(pos), surrogate(pos))  # dropout
    prediction = surrogate.predict(pos)
    assert torch.equal(prediction, surrogate.predict(pos))
    assert not prediction.requires_grad
    surrogate(pos).sum().backward()
    assert pos.grad.abs().sum() > 0
