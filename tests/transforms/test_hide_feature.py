import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_flare.transforms import HideFeature, feature_key


def sample(name="depth", channels=2):
    return Data(
        pos=torch.rand(50, 2), **{feature_key(name): 1 + torch.rand(50, channels)}
    )


@pytest.mark.parametrize("name", ["depth", "y"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.33, 1.0])
def test_shows_a_share_and_says_which(name, share):
    data, key = sample(name), feature_key(name)
    before = data[key].clone()
    data = HideFeature(name, share)(data)
    known = data[feature_key(f"{name}_known")]
    assert known.shape == (50, 1) and known.sum() == round(50 * share)
    shown = known[:, 0] == 1
    assert torch.equal(data[key][shown], before[shown])
    assert not data[key][~shown].any() and not known[~shown].any()


def test_other_points_each_time():
    data = sample()
    hide, whole = HideFeature("depth", 0.5), data.depth
    torch.manual_seed(0)
    first = hide(data).depth_known
    assert not torch.equal(hide(data).depth_known, first)
    torch.manual_seed(0)
    assert torch.equal(hide(data).depth_known, first)
    assert data.depth is whole
    assert str(hide) == "HideFeature('depth', share=0.5)"


def test_a_feature_of_one_number_a_point():
    data = HideFeature("depth", 0.5)(Data(pos=torch.rand(6, 2), depth=torch.ones(6)))
    assert data.depth.shape == (6,) and data.depth.sum() == 3


def test_what_is_refused():
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="share"):
            HideFeature("depth", share)
    with pytest.raises(ValueError, match="'height'"):
        HideFeature("height", 0.5)(sample())
    data = sample()
    data.x = torch.rand(50, 4)
    with pytest.raises(ValueError, match="no x"):
        HideFeature("depth", 0.5)(data)
    data = Data(pos=torch.rand(50, 2), depth=torch.rand(1, 2))
    with pytest.raises(ValueError, match="50 points"):
        HideFeature("depth", 0.5)(data)
    with pytest.raises(ValueError, match="depth_known"):
        HideFeature("depth", 0.5)(HideFeature("depth", 0.5)(sample()))
