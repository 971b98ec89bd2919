import pytest
import torch

from torch_geometric_flare import Transformer, from_reference

from .golden import check_parity, load


def test_parity():
    arrays, state = load("transformer")
    model = from_reference("transformer", state, heads=2)
    assert isinstance(model, Transformer) and not model.training
    check_parity(model, arrays)


def test_errors():
    _, state = load("transformer")
    with pytest.raises(ValueError, match="heads is 3"):
        from_reference("transformer", state, heads=3)
    with pytest.raises(ValueError, match="qk_norm is True, but 'transformer'"):
        from_reference("transformer", state, heads=2, qk_norm=True)
    with pytest.raises(ValueError, match=r"unknown \['surplus'\]"):
        from_reference("transformer", {**state, "surplus": torch.zeros(1)}, heads=2)
    del state["blocks.1.att.qkv_proj.bias"]
    with pytest.raises(ValueError, match=r"missing \['blocks.1.mixer.qkv.bias'\]"):
        from_reference("transformer", state, heads=2)
    with pytest.raises(ValueError, match="has no 'in_proj.fc1.weight'"):
        from_reference("transformer", {}, heads=2)
