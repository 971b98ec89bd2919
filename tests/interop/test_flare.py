from pathlib import Path

import numpy as np
import pytest
import torch

from torch_geometric_flare import from_reference

DATA = Path(__file__).parent.parent / "data"


def load(name):
    with np.load(DATA / f"{name}.npz") as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files}
    state = {k[6:]: v for k, v in arrays.items() if k.startswith("state/")}
    return arrays, state


def build(arrays, state):
    return from_reference(
        "flare",
        state,
        heads=int(arrays["meta/num_heads"]),
        scale=float(arrays["meta/attn_scale"]),
        qk_norm="meta/qk_norm" in arrays,
    )


@pytest.mark.parametrize("name", ["flare", "flare_qknorm_sqrt"])
def test_parity(name):
    arrays, state = load(name)
    model = build(arrays, state)
    x = arrays["x"].requires_grad_()
    graphs, points, _ = x.shape
    batch = torch.arange(graphs).repeat_interleave(points)
    y = model(x.flatten(0, 1), batch).view_as(arrays["y"])
    torch.testing.assert_close(y, arrays["y"], atol=1e-9, rtol=0)
    weights = torch.arange(y.numel(), dtype=torch.float64).cos().view_as(y)
    (y * weights).sum().backward()
    torch.testing.assert_close(x.grad, arrays["dx"], atol=1e-9, rtol=0)

    # Gradients are renamed and reshaped as parameters are.
    grads = {k[5:]: v for k, v in arrays.items() if k.startswith("grad/")}
    expected = build(arrays, grads).state_dict()
    for key, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[key], atol=1e-9, rtol=0)


def test_errors():
    arrays, state = load("flare")
    with pytest.raises(ValueError, match="'resnet', expected 'flare'"):
        from_reference("resnet", state, heads=2)
    with pytest.raises(ValueError, match=r"grid is \(5, 4\), but 'flare' has no grid"):
        from_reference("flare", state, heads=2, grid=(5, 4))
    with pytest.raises(ValueError, match="heads is 3"):
        from_reference("flare", state, heads=3)
    with pytest.raises(ValueError, match="qk_norm"):
        from_reference("flare", state, heads=2, qk_norm=True)
    with pytest.raises(ValueError, match=r"unknown \['surplus'\]"):
        from_reference("flare", {**state, "surplus": torch.zeros(1)}, heads=2)
    del state["blocks.1.norm1.bias"]
    with pytest.raises(ValueError, match=r"missing \['blocks.1.mixer_norm.bias'\]"):
        from_reference("flare", state, heads=2)
    with pytest.raises(ValueError, match="has no 'in_proj.fc1.weight'"):
        from_reference("flare", {}, heads=2)
    state = load("flare")[1]
    state["out_proj.0.weight"] = torch.zeros(3)
    with pytest.raises(ValueError, match="norm.weight has shape"):
        from_reference("flare", state, heads=2)
