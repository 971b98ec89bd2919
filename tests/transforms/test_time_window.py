import pytest
import torch
from torch_geometric.data import Batch, Data

from torch_geometric_flare.fields import Field
from torch_geometric_flare.transforms import TimeWindow

STATE = (Field("height"), Field("flow", 2))


def history(num_states=5):
    """At time t the height is t and the flow (10 t, 100 t)."""
    times = torch.arange(num_states, dtype=torch.float32)[:, None]
    y = (times * torch.tensor([1.0, 10.0, 100.0])).flatten()
    return Data(x=torch.zeros(2, 3), pos=torch.zeros(2, 2), y=y.expand(2, -1))


def test_a_state_and_those_after_it():
    data = TimeWindow(STATE, 2, start=1)(history())
    assert data.height.tolist() == [[1.0]] * 2
    assert data.flow.tolist() == [[10.0, 100.0]] * 2
    assert data.y.tolist() == [[2.0, 20.0, 200.0, 3.0, 30.0, 300.0]] * 2
    assert "x" not in data and "pos" in data


def test_the_given_sample_stays_as_it_is():
    data = history()
    TimeWindow(STATE, 2)(data)
    assert sorted(data.keys()) == ["pos", "x", "y"] and data.y.shape == (2, 15)


def test_random_times_reach_all_windows_and_follow_the_seed():
    window = TimeWindow(STATE, 3)
    starts = [int(window(history()).height[0]) for _ in range(50)]
    assert set(starts) == {0, 1}  # states 0 to 3 and 1 to 4
    torch.manual_seed(3)
    first = [window(history(40)).height[0].item() for _ in range(5)]
    torch.manual_seed(3)
    assert [window(history(40)).height[0].item() for _ in range(5)] == first


def test_the_longest_window_has_one_place():
    data = TimeWindow(STATE, 4)(history())
    assert data.height[0] == 0 and data.y.shape == (2, 12)


@pytest.mark.parametrize("start", [None, 2])
def test_a_window_that_does_not_fit(start):
    with pytest.raises(ValueError, match="has 5 states, but .* need .: choose a short"):
        TimeWindow(STATE, 5 if start is None else 3, start)(history())


def test_bad_arguments_and_samples():
    with pytest.raises(ValueError, match="state is empty"):
        TimeWindow((), 1)
    with pytest.raises(ValueError, match="two fields are called 'height'"):
        TimeWindow((Field("height"), Field("height")), 1)
    with pytest.raises(ValueError, match="got num_steps=0, start=None"):
        TimeWindow(STATE, 0)
    with pytest.raises(ValueError, match="got num_steps=1, start=-1"):
        TimeWindow(STATE, 1, start=-1)
    with pytest.raises(ValueError, match=r"y of shape \(2, 4\), expected .* \* 3\]"):
        TimeWindow(STATE, 1)(Data(y=torch.zeros(2, 4)))
    with pytest.raises(ValueError, match="y of shape None"):
        TimeWindow(STATE, 1)(Data())
    with pytest.raises(ValueError, match="data is a batch"):
        TimeWindow(STATE, 1)(Batch.from_data_list([history()]))


def test_repr():
    assert repr(TimeWindow(STATE, 3)) == "TimeWindow(['height', 'flow'], 3, start=None)"
