import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data

from torch_geometric_flare.fields import Field
from torch_geometric_flare.nn import FLARE
from torch_geometric_flare.surrogates import Surrogate, rollout
from torch_geometric_flare.transforms import Normalizer

CHANGES = {"height": "rise"}


class Growth(nn.Module):
    """A rise of the height times a rate, from the columns (x, y, height, rate)."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.factor * x[:, 2:3] * x[:, 3:4]


def growth():
    return Surrogate(
        Growth(),
        Normalizer.identity(1),
        fields=[Field("rise")],
        features=[Field("height"), Field("rate")],
    )


def start(num_points=4):
    return Data(
        pos=torch.rand(num_points, 2),
        height=torch.linspace(1.0, 2.0, num_points)[:, None],
        rate=torch.full((num_points, 1), 0.5),
    )


def test_compound_growth_and_its_gradient():
    surrogate, data = growth(), start()
    states = rollout(surrogate, data, 3, CHANGES)
    for number, state in enumerate(states, 1):
        torch.testing.assert_close(state.height, data.height * 1.5**number)
        assert state.rate is data.rate and state.pos is data.pos
    assert data.height[0] == 1.0  # the given sample stays as it is
    states[-1].height.sum().backward()
    # d/df of (1 + f r)^3 at f = 1.
    expected = (3 * 1.5**2 * 0.5 * data.height).sum()
    torch.testing.assert_close(surrogate.model.factor.grad, expected)


def test_only_the_state_changes_and_all_of_it():
    surrogate = Surrogate(
        nn.Linear(5, 3, bias=False),
        Normalizer.identity(3),
        fields=[Field("pull", 2), Field("rise")],
        features=[Field("height"), Field("flow", 2)],
    )
    surrogate.model.forward = lambda x: torch.tensor([[1.0, 2.0, 3.0]]).expand(
        len(x), 3
    )
    data = Data(pos=torch.zeros(2, 2), height=torch.zeros(2), flow=torch.ones(2, 2))
    last = rollout(surrogate, data, 2, {"height": "rise", "flow": "pull"})[-1]
    assert last.height.tolist() == [6.0, 6.0]  # a vector stays one
    assert last.flow.tolist() == [[3.0, 5.0]] * 2


def test_batch_mates_do_not_see_each_other():
    surrogate = Surrogate(
        FLARE(4, 8, 1, num_layers=1, heads=2, num_latents=4),
        Normalizer.identity(1),
        fields=[Field("rise")],
        features=[Field("height"), Field("rate")],
    )
    samples = [start(5), start(9)]
    with torch.no_grad():
        together = rollout(surrogate, Batch.from_data_list(samples), 3, CHANGES)[-1]
        alone = [rollout(surrogate, one, 3, CHANGES)[-1].height for one in samples]
    torch.testing.assert_close(together.height, torch.cat(alone))
    assert (together.height - torch.cat([s.height for s in samples])).abs().min() > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "changes is empty"),
        ({"depth": "rise"}, r"'depth': 'rise', but .* features \['height', 'rate'\]"),
        ({"height": "fall"}, r"the fields \['rise'\]"),
    ],
)
def test_changes_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        rollout(growth(), start(), 1, changes)


def test_a_change_of_other_channels():
    surrogate = Surrogate(
        Growth(),
        Normalizer.identity(2),
        fields=[Field("rise", 2)],
        features=[Field("height"), Field("rate")],
    )
    with pytest.raises(ValueError, match="'height' has 1 channels and .* 'rise' has 2"):
        rollout(surrogate, start(), 1, CHANGES)


def test_bad_samples_and_steps():
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        rollout(growth(), start(), 0, CHANGES)
    data = start()
    data.x = torch.zeros(4, 4)
    with pytest.raises(ValueError, match="data has x, which holds the state of one"):
        rollout(growth(), data, 1, CHANGES)
    del data.x, data.rate
    with pytest.raises(ValueError, match="features lacks 'rate'"):
        rollout(growth(), data, 1, CHANGES)
