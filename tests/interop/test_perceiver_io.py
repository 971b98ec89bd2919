import pytest
import torch

from torch_geometric_flare import PerceiverIO, from_reference

from .golden import check_parity, load


def test_parity():
    arrays, state = load("perceiver_io")
    model = from_reference("perceiver_io", state, heads=2)
    assert isinstance(model, PerceiverIO) and not model.training
    assert (model.num_layers, model.num_latents, model.mlp_ratio) == (2, 4, 2)
    check_parity(model, arrays)


def test_heads_are_those_of_the_reference():
    arrays, state = load("perceiver_io")
    model = from_reference("perceiver_io", state, heads=4)
    assert (model(arrays["x"][0]) - arrays["y"][0]).abs().max() > 1e-3


def test_errors():
    _, state = load("perceiver_io")
    with pytest.raises(ValueError, match="heads is 3"):
        from_reference("perceiver_io", state, heads=3)
    with pytest.raises(ValueError, match="scale is 1.0, but 'perceiver_io'"):
        from_reference("perceiver_io", state, heads=2, scale=1.0)
    with pytest.raises(ValueError, match=r"unknown \['surplus'\]"):
        from_reference("perceiver_io", {**state, "surplus": torch.zeros(1)}, heads=2)
    state["encoder.latent_q"] = state["encoder.latent_q"].T.contiguous()
    with pytest.raises(ValueError, match="has shape"):
        from_reference("perceiver_io", state, heads=2)
    _, state = load("perceiver_io")
    del state["decoder.ln2.bias"]
    with pytest.raises(ValueError, match=r"missing \['blocks.0.decoder_norm.bias'\]"):
        from_reference("perceiver_io", state, heads=2)
    with pytest.raises(ValueError, match="has no 'in_proj.fc1.weight'"):
        from_reference("perceiver_io", {}, heads=2)
