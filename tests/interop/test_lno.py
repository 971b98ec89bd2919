import pytest
import torch

from torch_geometric_flare import LNO, from_reference

from .golden import check_parity, load


def test_parity():
    arrays, state = load("lno")
    model = from_reference("lno", state, heads=2)
    assert isinstance(model, LNO) and not model.training
    assert (model.num_layers, model.num_modes) == (2, 4)
    assert (model.mlp_layers, model.mlp_ratio) == (2, 2)
    check_parity(model, arrays)


def test_errors():
    _, state = load("lno")
    with pytest.raises(ValueError, match="heads is 3"):
        from_reference("lno", state, heads=3)
    with pytest.raises(ValueError, match="qk_norm is True, but 'lno'"):
        from_reference("lno", state, heads=2, qk_norm=True)
    with pytest.raises(ValueError, match=r"unknown \['surplus'\]"):
        from_reference("lno", {**state, "surplus": torch.zeros(1)}, heads=2)
    with pytest.raises(ValueError, match="has no 'trunk_projector.input.weight'"):
        from_reference("lno", {}, heads=2)
    for name, ours in (
        ("attn_blocks.1.self_attn.Wk.weight", "attn_blocks.1.self_attn.Wk.weight"),
        ("attn_blocks.1.self_attn.Wq.bias", r"missing .*blocks.0.blocks.1.qkv.bias"),
        ("out_mlp.hidden.1.bias", r"missing \['head.layers.2.bias'\]"),
    ):
        rest = {key: value for key, value in state.items() if key != name}
        with pytest.raises(ValueError, match=ours):
            from_reference("lno", rest, heads=2)
