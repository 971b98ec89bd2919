import pytest
import torch
from torch_geometric.data import Batch, Data

from torch_geometric_flare.fields import Field
from torch_geometric_flare.transforms import Normalizer, make_input

MODULUS, FLOW = Field("modulus", 1, "Pa"), Field("flow", 2)


def sample(**more):
    pos = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
    return Data(pos=pos, **more)


def test_coordinates_then_features_in_order():
    flow = torch.arange(6.0).view(3, 2)
    data = sample(modulus=torch.tensor([7.0, 8.0, 9.0]), flow=flow)
    assert make_input(data).equal(data.pos)
    x = make_input(data, (MODULUS, FLOW))
    expected = [[0, 1, 7, 0, 1], [2, 3, 8, 2, 3], [4, 5, 9, 4, 5]]
    assert x.tolist() == expected
    assert make_input(data, (FLOW,))[:, 2:].equal(flow)
    normalizer = Normalizer.from_bounds([0.0, 1.0], [4.0, 5.0])
    x = make_input(data, (MODULUS,), normalizer)
    assert x.tolist() == [[0.0, 0.0, 7.0], [0.5, 0.5, 8.0], [1.0, 1.0, 9.0]]
    column = sample(modulus=data.modulus.view(3, 1))
    assert make_input(column, (MODULUS,), normalizer).equal(x)


def test_a_batch_of_samples():
    data = [sample(modulus=torch.full((3, 1), value)) for value in (1.0, 2.0)]
    x = make_input(Batch.from_data_list(data), (MODULUS,))
    assert x.equal(torch.cat([make_input(d, (MODULUS,)) for d in data]))


@pytest.mark.parametrize("value", [2.5, 2, torch.tensor(2.5), torch.full((1, 1), 2.5)])
def test_a_number_for_a_sample(value):
    """A batch of PyG stacks numbers; a single sample keeps them as they are."""
    data = sample(modulus=value)
    x = make_input(data, (MODULUS,))
    assert x[:, 2].tolist() == [float(value)] * 3
    batch = Batch.from_data_list([data, data])
    assert make_input(batch, (MODULUS,)).equal(torch.cat([x, x]))


def test_features_take_the_dtype_of_the_coordinates():
    data = sample(modulus=torch.arange(3))
    assert make_input(data, (MODULUS,)).dtype == torch.float32
    data.pos = data.pos.double()
    assert make_input(data, (MODULUS,)).dtype == torch.float64


def test_what_is_missing_is_named():
    message = r"features lacks 'modulus' \(Pa\), 'flow': the sample has only \['pos'\]"
    with pytest.raises(ValueError, match=message):
        make_input(sample(), (MODULUS, FLOW))
    with pytest.raises(ValueError, match=r"Add data\.flow of shape \[3, 2\]"):
        make_input(sample(modulus=torch.ones(3)), (MODULUS, FLOW))
    with pytest.raises(ValueError, match="needs coordinates `pos`"):
        make_input(Data(x=torch.ones(3, 2)))


@pytest.mark.parametrize(
    "value", [torch.ones(2, 1), torch.ones(3, 2), torch.ones(2), "1.0", [1.0]]
)
def test_a_feature_that_does_not_fit(value):
    with pytest.raises(ValueError, match=r"'modulus' has (shape|type) .*\(3, 1\)"):
        make_input(sample(modulus=value), (MODULUS,))


@pytest.mark.parametrize("channels", [1, 2])
def test_a_row_for_each_sample_holds_at_its_points(channels):
    rows = [[float(10 * k + c) for c in range(channels)] for k in range(3)]
    samples = [
        Data(pos=torch.rand(size, 2), alpha=torch.tensor([row]))
        for size, row in zip((4, 1, 3), rows, strict=True)
    ]
    features = (Field("alpha", channels, "deg"),)
    single = make_input(samples[0], features)
    assert single[:, 2:].tolist() == [rows[0]] * 4
    batch = make_input(Batch.from_data_list(samples), features)
    assert batch[:, 2:].tolist() == [rows[0]] * 4 + [rows[1]] + [rows[2]] * 3


@pytest.mark.parametrize("alpha", [torch.tensor([2.5]), torch.tensor([-4.0])])
def test_a_number_for_each_sample_holds_at_its_points(alpha):
    data = Data(pos=torch.rand(3, 2), alpha=alpha)
    found = make_input(data, (Field("alpha"),))
    assert found[:, 2].tolist() == [float(alpha)] * 3
    pair = Batch.from_data_list([data, data])
    assert make_input(pair, (Field("alpha"),))[:, 2].tolist() == [float(alpha)] * 6


def test_rows_of_other_numbers_of_samples_are_refused():
    data = Data(pos=torch.rand(5, 2), alpha=torch.rand(2, 1))
    with pytest.raises(ValueError, match="'alpha'"):
        make_input(data, (Field("alpha"),))
