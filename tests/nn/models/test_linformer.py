import pytest
import torch

from torch_geometric_flare.nn import Linformer


def test_projections_are_all_that_grows_with_the_points():
    small, large = (
        Linformer(3, 16, 1, num_points=n, num_projections=8, num_layers=2, heads=2)
        for n in (50, 51)
    )
    count = [sum(p.numel() for p in m.parameters()) for m in (small, large)]
    assert count[1] - count[0] == 2 * 2 * 8


def test_errors():
    model = Linformer(3, 8, 1, num_points=20, num_layers=1)
    assert model(torch.randn(40, 3), torch.arange(40) // 20).shape == (40, 1)
    with pytest.raises(ValueError, match="^graph 0 has 21 points, expected 20"):
        model(torch.randn(21, 3))
    with pytest.raises(ValueError, match="^chunk_size is 10, but Linformer needs all"):
        Linformer(3, 8, 1, num_points=20, chunk_size=10)
    with pytest.raises(ValueError, match="num_projections is 0"):
        Linformer(3, 8, 1, num_points=20, num_projections=0)
    with pytest.raises(ValueError, match="hidden_channels is 8, which heads=3"):
        Linformer(3, 8, 1, num_points=20, heads=3)


def test_repr():
    model = Linformer(3, 8, 2, num_points=20, num_projections=4, num_layers=2, heads=2)
    assert str(model) == (
        "Linformer(3, 8, 2, num_layers=2, heads=2, num_points=20, num_projections=4)"
    )
