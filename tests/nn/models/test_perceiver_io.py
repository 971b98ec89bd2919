import pytest
import torch

from torch_geometric_flare import PerceiverIO
from torch_geometric_flare.training import parameter_groups


def small(**options):
    return PerceiverIO(3, 8, 2, num_layers=2, heads=2, num_latents=5, **options)


def test_published_parameter_count_is_the_default():
    model = PerceiverIO(2, 128, 1)
    assert sum(p.numel() for p in model.parameters()) == 1_864_833


def test_initial_parameters():
    torch.manual_seed(0)
    model = PerceiverIO(3, 64, 2, num_layers=2, init="paper")
    (stage,) = model.blocks
    assert 0.98 < stage.latents.std() < 1.02
    for linear in (stage.encoder_key, stage.decoder_out, stage.blocks[1].qkv):
        assert 0.018 < linear.weight.std() < 0.022
    assert not stage.decoder_query.bias.any()
    assert stage.blocks[0].qkv.bias is None


def test_the_latents_do_not_decay():
    model = small()
    (stage,) = model.blocks
    decaying = parameter_groups(model, 0.1)[0]["params"]
    assert not any(stage.latents is q for q in decaying)
    assert any(stage.encoder_key.weight is q for q in decaying)


def test_no_residual_leads_around_the_latents():
    model = small().double()
    x = torch.randn(20, 3, dtype=torch.float64)
    assert model(x).std(0).min() > 0
    with torch.no_grad():  # the latents hear nothing, and so are all alike
        model.blocks[0].encoder_out.weight.zero_()
    torch.testing.assert_close(model(x), model(x[:1]).expand(20, 2))


def test_the_work_among_latents_does_not_grow_with_the_points():
    model = small(chunk_size=10)
    shapes = []
    for block in model.blocks[0].blocks:
        block.register_forward_hook(
            lambda _, inputs, __: shapes.append(inputs[0].shape)
        )
    model(torch.randn(95, 3), torch.arange(95) // 50)
    assert shapes == [(2, 5, 8)] * 2


def test_errors():
    with pytest.raises(ValueError, match="num_latents is 0"):
        PerceiverIO(3, 8, 1, num_latents=0)
    with pytest.raises(ValueError, match="mlp_ratio is 0"):
        PerceiverIO(3, 8, 1, mlp_ratio=0)
    with pytest.raises(ValueError, match="hidden_channels is 8, which .*heads=3"):
        PerceiverIO(3, 8, 1, heads=3)
    with pytest.raises(ValueError, match="chunk_size is 0"):
        small(chunk_size=0)


def test_repr():
    expected = "PerceiverIO(3, 8, 2, num_layers=2, heads=2, num_latents=5)"
    assert str(small()) == expected
