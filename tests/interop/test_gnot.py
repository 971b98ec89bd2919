import pytest
import torch

from torch_geometric_flare import GNOT, from_reference

from .golden import check_parity, load


def test_parity():
    arrays, state = load("gnot")
    model = from_reference("gnot", state, heads=2)
    assert isinstance(model, GNOT) and not model.training
    check_parity(model, arrays)


def to_reference(model):
    """The parameters of a GNOT under the reference's names."""
    names = (
        ("lift.placeholder", "placeholder"),
        ("lift.geometry.layers.0", "preprocess_x.linear_pre.0"),
        ("lift.geometry.layers.1", "preprocess_x.linear_post"),
        ("lift.state.layers.0", "preprocess_z.linear_pre.0"),
        ("lift.state.layers.1", "preprocess_z.linear_post"),
        ("self_attention_norm", "ln4"),
        ("geometry_norm", "ln1"),
        ("state_norm", "ln2"),
        ("experts1_norm", "ln3"),
        ("experts2_norm", "ln5"),
        ("cross_attention", "crossattn"),
        ("self_attention", "selfattn"),
        ("attn.out", "attn.proj"),
        ("experts1.experts", "moe_mlp1"),
        ("experts2.experts", "moe_mlp2"),
        ("gate.", "gatenet."),
        ("head.mlp.layers.0", "fc1"),
        ("head.mlp.layers.1", "fc2"),
        (".layers.0", ".0"),
        (".layers.1", ".2"),
    )
    found = {}
    for name, value in model.state_dict().items():
        for ours, theirs in names:
            name = name.replace(ours, theirs)
        found[name] = value
    return found


def test_on_a_reference_grid():
    model = GNOT(3, 8, 2, num_layers=2, heads=2, grid=(5, 4), reference_grid=3).double()
    rebuilt = from_reference("gnot", to_reference(model), heads=2, grid=(5, 4))
    assert (rebuilt.grid, rebuilt.reference_grid) == ((5, 4), 3)
    x = torch.randn(20, 3, dtype=torch.float64)
    assert torch.equal(rebuilt(x), model(x))
    with pytest.raises(ValueError, match="embeddings take 9 channels and the gates 3"):
        from_reference("gnot", to_reference(model), heads=2)


def test_errors():
    _, state = load("gnot")
    with pytest.raises(ValueError, match="heads is 3"):
        from_reference("gnot", state, heads=3)
    with pytest.raises(ValueError, match="embeddings take 3 channels"):
        from_reference("gnot", state, heads=2, grid=(8, 5))
    with pytest.raises(ValueError, match=r"unknown \['surplus'\]"):
        from_reference("gnot", {**state, "surplus": torch.zeros(1)}, heads=2)
    del state["blocks.1.ln3.bias"]
    with pytest.raises(ValueError, match=r"missing \['blocks.1.experts1_norm.bias'\]"):
        from_reference("gnot", state, heads=2)
    with pytest.raises(ValueError, match="has no 'preprocess_x.linear_pre.0.weight'"):
        from_reference("gnot", {}, heads=2)
