import pytest
import torch

from torch_geometric_flare import Transolver, from_reference

from .golden import check_parity, cosines, load


def test_parity():
    arrays, state = load("transolver")
    model = from_reference("transolver", state, heads=2)
    assert isinstance(model, Transolver) and not model.training
    assert (model.num_slices, model.mlp_ratio, model.grid) == (4, 1, None)
    check_parity(model, arrays)


def test_parity_with_convolutions():
    arrays, state = load("transolver_conv2d")
    # One temperature lies below the clamp.
    assert state["blocks.1.Attn.temperature"].min() < 0.1
    model = from_reference("transolver_conv2d", state, heads=2, grid=(8, 5))
    assert model.grid == (8, 5)
    x = arrays["x"].requires_grad_()
    mate = torch.randn(40, 3, dtype=torch.float64)
    # In the order 0, 3, 1: graph 2 is empty, graph 3 a mate.
    rows = torch.cat([x[0], x[1], mate])
    batch = torch.tensor([0, 1, 3]).repeat_interleave(40)
    y = model(rows, batch, 5)[:80].view_as(arrays["y"])
    torch.testing.assert_close(y, arrays["y"], atol=1e-9, rtol=0)
    (y * cosines(y)).sum().backward()
    torch.testing.assert_close(x.grad, arrays["dx"], atol=1e-9, rtol=0)


def test_a_grid_of_the_other_shape_gives_something_else():
    arrays, state = load("transolver_conv2d")
    model = from_reference("transolver_conv2d", state, heads=2, grid=(5, 8))
    assert (model(arrays["x"][0]) - arrays["y"][0]).abs().max() > 1e-3


def test_errors():
    _, state = load("transolver")
    with pytest.raises(ValueError, match="heads is 3"):
        from_reference("transolver", state, heads=3)
    with pytest.raises(ValueError, match=r"grid is \(8, 5\), but 'transolver'"):
        from_reference("transolver", state, heads=2, grid=(8, 5))
    with pytest.raises(ValueError, match="grid is None, but 'transolver_conv2d'"):
        from_reference("transolver_conv2d", state, heads=2)
    with pytest.raises(ValueError, match="mixer.point.weight has shape"):
        from_reference("transolver_conv2d", state, heads=2, grid=(8, 5))
    with pytest.raises(ValueError, match=r"unknown \['surplus'\]"):
        from_reference("transolver", {**state, "surplus": torch.zeros(1)}, heads=2)
    early = {**state, "blocks.0.ln_3.weight": torch.zeros(16)}
    with pytest.raises(ValueError, match=r"unknown \['blocks.0.ln_3.weight'\]"):
        from_reference("transolver", early, heads=2)
    del state["blocks.1.Attn.to_k.weight"]
    with pytest.raises(ValueError, match=r"missing \['blocks.1.mixer.key.weight'\]"):
        from_reference("transolver", state, heads=2)
    with pytest.raises(ValueError, match="has no 'preprocess.linear_pre.0.weight'"):
        from_reference("transolver", {}, heads=2)
