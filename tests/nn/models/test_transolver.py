import pytest
import torch

from torch_geometric_flare import PointBatch, Transolver
from torch_geometric_flare.fields import Field
from torch_geometric_flare.surrogates import Surrogate, load_surrogate, save_surrogate
from torch_geometric_flare.training import parameter_groups
from torch_geometric_flare.transforms import Normalizer


def small(**options):
    return Transolver(3, 8, 2, num_layers=2, heads=2, num_slices=5, **options)


@pytest.mark.parametrize(("grid", "expected"), [(None, 713_665), ((85, 85), 2_810_817)])
def test_published_parameter_counts_are_the_defaults(grid, expected):
    model = Transolver(2, 128, 1, grid=grid)
    assert sum(p.numel() for p in model.parameters()) == expected


def test_initial_parameters():
    torch.manual_seed(0)
    model = Transolver(3, 64, 2, num_layers=2, init="paper")
    placeholder = model.lift.placeholder
    assert 0 <= placeholder.min() < placeholder.max() <= 1 / 64
    (head,) = model.head.layers
    for linear in (*model.lift.mlp.layers, *model.blocks[0].feed_forward.layers, head):
        assert 0.015 < linear.weight.std() < 0.025
        assert not linear.bias.any()
    assert model.blocks[1].mixer.temperature.tolist() == [0.5] * 8


def test_the_placeholder_and_the_temperatures_do_not_decay():
    model = small(grid=(5, 4))
    decaying = parameter_groups(model, 0.1)[0]["params"]
    spared = model.lift.placeholder, model.blocks[0].mixer.temperature
    assert not any(p is q for p in spared for q in decaying)
    assert any(model.blocks[0].mixer.point.weight is q for q in decaying)


def test_a_grid_that_is_transposed_is_another():
    torch.manual_seed(0)
    model = small(grid=(5, 4))
    x = torch.randn(20, 3)
    y = model(x)
    model.blocks[0].mixer.grid = (4, 5)
    assert (model(x) - y).abs().max() > 1e-5


def test_equal_grids_beside_empty_graphs():
    model = small(grid=(5, 4)).double()
    x = torch.randn(40, 3, dtype=torch.float64)
    layout = PointBatch.from_sizes((0, 20, 0, 20))
    expected = torch.cat([model(x[:20]), model(x[20:])])
    torch.testing.assert_close(model(x, layout), expected)


def test_a_checkpoint_knows_the_grid(tmp_path):
    model = small(grid=(5, 4))
    fields = (Field("stress", 2, "Pa"),)
    normalizer = Normalizer(torch.zeros(2), torch.ones(2))
    save_surrogate(Surrogate(model, normalizer, fields=fields), tmp_path / "model.pt")
    found = load_surrogate(tmp_path / "model.pt").model
    assert found.grid == (5, 4)
    x = torch.randn(20, 3)
    assert torch.equal(found(x), model(x))


def test_errors():
    with pytest.raises(ValueError, match="num_slices is 0"):
        Transolver(3, 8, 1, num_slices=0)
    with pytest.raises(ValueError, match="mlp_ratio is 0"):
        Transolver(3, 8, 1, mlp_ratio=0)
    with pytest.raises(ValueError, match="hidden_channels is 8, which .*heads=3"):
        Transolver(3, 8, 1, heads=3)
    with pytest.raises(ValueError, match="grid is 20, expected two positive integers"):
        small(grid=20)
    with pytest.raises(ValueError, match="^chunk_size is 10, .*GridPhysicsAttention"):
        small(grid=(5, 4), chunk_size=10)
    with pytest.raises(ValueError, match=r"expected \[N, 3\]"):
        small()(torch.randn(5, 4))


def test_repr():
    name = "Transolver(3, 8, 2, num_layers=2, heads=2, num_slices=5"
    assert str(small()) == name + ")"
    assert str(small(grid=[5, 4])) == name + ", grid=(5, 4))"
