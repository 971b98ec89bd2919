import pytest
import torch

from torch_geometric_flare import LNO


def small(**options):
    return LNO(3, 8, 2, num_layers=2, heads=2, num_modes=5, **options)


@pytest.mark.parametrize(
    ("in_channels", "width", "options", "expected"),
    [
        (2, 192, {"mlp_layers": 3}, 1_831_745),
        (3, 128, {}, 762_241),
        (2, 128, {"num_layers": 8}, 1_291_905),
    ],
)
def test_published_parameter_counts(in_channels, width, options, expected):
    model = LNO(in_channels, width, 1, **options)
    assert sum(p.numel() for p in model.parameters()) == expected


def test_initial_parameters_are_those_of_torch():
    torch.manual_seed(0)
    model = LNO(3, 64, 2, num_layers=2)
    (stage,) = model.blocks
    # Linear maps are drawn uniformly up to one over the root of their inputs.
    for linear in (stage.trunk.layers[1], stage.score.layers[-1], stage.blocks[0].qkv):
        assert 0.12 < linear.weight.abs().max() <= 1 / 8
        assert 0.05 < linear.bias.abs().max() <= 1 / 8


def test_the_scores_are_computed_once_for_both_directions():
    model = small()
    calls = []
    model.blocks[0].score.register_forward_hook(lambda *_: calls.append(1))
    x = torch.randn(30, 3)
    y = model(x)
    assert len(calls) == 1
    model.chunk_size = 10
    torch.testing.assert_close(model(x), y)
    assert len(calls) == 1 + 2 * 3


def test_the_work_among_modes_does_not_grow_with_the_points():
    model = small(chunk_size=10)
    shapes = []
    for block in model.blocks[0].blocks:
        block.register_forward_hook(
            lambda _, inputs, __: shapes.append(inputs[0].shape)
        )
    model(torch.randn(95, 3), torch.arange(95) // 50)
    assert shapes == [(2, 5, 8)] * 2


def test_errors():
    with pytest.raises(ValueError, match="num_modes is 0"):
        LNO(3, 8, 1, num_modes=0)
    with pytest.raises(ValueError, match="mlp_layers is -1, expected 0 or more"):
        LNO(3, 8, 1, mlp_layers=-1)
    with pytest.raises(ValueError, match="hidden_channels is 8, which .*heads=3"):
        LNO(3, 8, 1, heads=3)
    with pytest.raises(ValueError, match="chunk_size is 0"):
        small(chunk_size=0)


def test_repr():
    expected = "LNO(3, 8, 2, num_layers=2, heads=2, num_modes=5)"
    assert str(small()) == expected
