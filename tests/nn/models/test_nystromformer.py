import pytest
import torch

from torch_geometric_flare.nn import Nystromformer, Transformer


def test_a_landmark_at_each_point_gives_the_transformer():
    model = Nystromformer(3, 8, 1, num_landmarks=12, num_layers=2, heads=2).double()
    twin = Transformer(3, 8, 1, num_layers=2, heads=2).double()
    names = [name.replace(".qkv.", ".maps.") for name in twin.state_dict()]
    twin.load_state_dict(
        dict(zip(twin.state_dict(), map(model.state_dict().get, names), strict=True))
    )
    x = torch.randn(12, 3, dtype=torch.float64)
    # Scores near zero make all rows of A alike: spread them, so that it has an inverse.
    for blocks in (model.blocks, twin.blocks):
        for block in blocks:
            linear = getattr(block.mixer, "maps", None) or block.mixer.qkv
            with torch.no_grad():
                linear.weight[:8].copy_(4 * torch.eye(8))
                linear.weight[8:16].copy_(4 * torch.eye(8))
                linear.bias.zero_()
    near = (model(x) - twin(x)).norm() / twin(x).norm()
    assert near < 0.05


def test_errors():
    with pytest.raises(
        ValueError, match="^chunk_size is 10, but Nystromformer needs all"
    ):
        Nystromformer(3, 8, 1, chunk_size=10)
    with pytest.raises(ValueError, match="num_landmarks is 0"):
        Nystromformer(3, 8, 1, num_landmarks=0)


def test_repr():
    model = Nystromformer(3, 8, 2, num_landmarks=4, num_layers=2, heads=2)
    assert (
        str(model) == "Nystromformer(3, 8, 2, num_layers=2, heads=2, num_landmarks=4)"
    )
