import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data

from torch_geometric_flare import FLARE
from torch_geometric_flare.fields import Field
from torch_geometric_flare.surrogates import Surrogate
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


class Wrapped(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, x):
        return self.layers(x)


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


def test_predict_evaluates_without_gradients_and_forward_has_them():
    model = nn.Sequential(nn.Linear(3, 16), nn.Dropout(0.5), nn.Linear(16, 1))
    surrogate = Surrogate(Wrapped(model), TARGET, BOUNDS).train()
    pos = torch.rand(50, 3, requires_grad=True)
    assert not torch.equal(surrogate(pos), surrogate(pos))  # dropout
    prediction = surrogate.predict(pos)
    assert torch.equal(prediction, surrogate.predict(pos))
    assert not prediction.requires_grad
    surrogate(pos).sum().backward()
    assert pos.grad.abs().sum() > 0


class Sum(nn.Module):
    """The sum of all inputs, twice."""

    def forward(self, x):
        return x.sum(1, keepdim=True).expand(-1, 2)


PERMEABILITY = Field("permeability", 1, "m²")
POROSITY = Field("porosity", 2)


def darcy(**arguments):
    arguments = {"features": (PERMEABILITY, POROSITY)} | arguments
    target = Normalizer([0.0, 0.0], [1.0, 1.0])
    square = Normalizer.from_bounds([0.0, 0.0], [2.0, 2.0])
    return Surrogate(Sum(), target, square, **arguments)


def test_features_follow_the_coordinates():
    pos = torch.tensor([[2.0, 1.0], [0.0, 2.0]])
    sample = Data(pos=pos, permeability=torch.tensor([[5.0], [7.0]]))
    sample.porosity = torch.tensor([[10.0, 20.0], [30.0, 40.0]])
    assert darcy().predict(sample)[:, 0].tolist() == [36.5, 78.0]
    # The statistics of the training split: one shift and scale for each channel of x.
    normalizer = Normalizer([0.0, 0.0, 5.0, 0.0, 0.0], [1.0, 1.0, 2.0, 10.0, 20.0])
    surrogate = darcy(input_normalizer=normalizer)
    assert surrogate.predict(sample)[:, 0].tolist() == [3.5, 7.0]
    assert "x" not in sample
    # An x that a sample brings is encoded as well.
    given = Data(x=torch.tensor([[1.0, 0.5, 5.0, 10.0, 20.0]]))
    assert surrogate.predict(given)[:, 0].tolist() == [3.5]
    assert given.x.tolist() == [[1.0, 0.5, 5.0, 10.0, 20.0]]
    batch = Batch.from_data_list([sample, sample])
    assert surrogate.predict(batch)[:, 0].tolist() == [3.5, 7.0, 3.5, 7.0]


def test_missing_features_are_named_with_their_units():
    pos = torch.ones(2, 2)
    sample = Data(pos=pos, porosity=torch.ones(2, 2))
    with pytest.raises(ValueError, match=r"permeability.*m²") as caught:
        darcy().predict(sample)
    assert "porosity" not in str(caught.value).partition(":")[0]
    with pytest.raises(ValueError, match=r"permeability.*m².*porosity"):
        darcy().predict(pos)
    normalizer = Normalizer([0.0] * 5, [1.0] * 5)
    message = r"shape \(2, 2\), expected \[N, 5\]: the coord.*permeability \(m²\), por"
    with pytest.raises(ValueError, match=message):
        darcy(input_normalizer=normalizer).predict(Data(x=pos))


def test_coordinates_may_be_encoded_by_the_input_normalizer_alone():
    surrogate = Surrogate(
        Sum(),
        Normalizer([0.0, 0.0], [1.0, 1.0]),
        input_normalizer=Normalizer([1.0, 2.0], [2.0, 4.0]),
    )
    assert surrogate.predict(torch.tensor([[3.0, 6.0]])).tolist() == [[2.0, 2.0]]


def test_columns_have_names():
    fields = (Field("pressure", 1, "Pa"), Field("shear", 3, "Pa"))
    surrogate = Surrogate(Sum(), Normalizer([0.0] * 4, [1.0] * 4), fields=fields)
    y = torch.arange(8.0).view(2, 4)
    parts = surrogate.split(y)
    assert list(parts) == ["pressure", "shear"]
    assert parts["pressure"].tolist() == [[0.0], [4.0]]
    assert parts["shear"].tolist() == [[1.0, 2.0, 3.0], [5.0, 6.0, 7.0]]
    with pytest.raises(ValueError, match=r"\(2, 3\), expected \[N, 4\]: pressure \(Pa"):
        surrogate.split(y[:, :3])
    assert list(Surrogate(Sum(), TARGET).split(torch.ones(5, 1))) == ["field"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fields": (Field("u", 2), Field("u"))}, "two fields are called 'u'"),
        ({"features": (Field("k"), Field("k"))}, "two fields are called 'k'"),
        ({"fields": (Field("u", 3),)}, "fields are u of 3 channels.*normalizer has 2"),
        (
            {"input_normalizer": Normalizer([0.0] * 3, [1.0] * 3)},
            "input_normalizer has 3 channels, but coordinates and features have 5",
        ),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        darcy(**arguments)


class Messages(nn.Module):
    """Sums messages over the edges that end at a point."""

    def forward(self, x, pos, edge_index, edge_attr, batch):
        source, target = edge_index
        messages = (x[source] + pos[source, :1]) * edge_attr
        return x.new_zeros(len(x), 1).index_add(0, target, messages) + batch[:, None]


def test_a_model_on_edges_gets_its_own_graph_s():
    samples = [
        Data(
            x=torch.tensor([[1.0], [2.0]]) * scale,
            pos=torch.zeros(2, 3),
            edge_index=torch.tensor([[0, 1], [1, 0]]),
            edge_attr=torch.tensor([[1.0], [10.0]]),
        )
        for scale in (1, 2)
    ]
    surrogate = Surrogate(Messages(), Normalizer([0.0], [1.0]))
    batch = Batch.from_data_list(samples)
    assert surrogate.predict(batch).flatten().tolist() == [20.0, 1.0, 41.0, 3.0]
    del batch["edge_attr"]
    with pytest.raises(
        ValueError, match="Messages.forward needs the field 'edge_attr'"
    ):
        surrogate.predict(batch)


@pytest.mark.parametrize("built", [3, 6])
def test_a_model_of_other_channels_names_those_of_the_input(built):
    model = FLARE(built, 8, 1, num_layers=1, heads=2, num_latents=4)
    features = (Field("alpha", 1, "deg"), Field("wind", 1))
    surrogate = Surrogate(model, TARGET, BOUNDS, features=features)
    data = Data(pos=torch.rand(4, 3), alpha=torch.ones(1, 1), wind=torch.rand(4, 1))
    expected = rf"3 coordinates, alpha \(1\), wind \(1\).* in_channels={built}: .*=5"
    with pytest.raises(ValueError, match=expected):
        surrogate.predict(data)
