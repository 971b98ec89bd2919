import re
from pathlib import Path

import numpy as np
import pytest
import torch

from torch_geometric_flare import FLARE, from_reference

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


def to_reference(model):
    """The parameters of such a FLARE under the names of the reference."""
    names = (
        (r"^lift\.layers\.0", "in_proj.fc1"),
        (r"^lift\.layers\.3", "in_proj.fc2"),
        (r"^head\.layers\.0", "out_proj.1.fc1"),
        (r"^head\.layers\.3", "out_proj.1.fc2"),
        (r"^lift\.layers", "in_proj.fcs"),
        (r"^head\.layers", "out_proj.1.fcs"),
        (r"^norm", "out_proj.0"),
        (r"mixer_norm", "norm1"),
        (r"feed_forward_norm", "norm2"),
        (r"feed_forward\.layers\.0", "mlp.fc1"),
        (r"feed_forward\.layers\.1", "mlp.fc2"),
        (r"mixer\.latents", "att.latent_q"),
        (r"mixer\.key_mlp\.layers\.0", "att.k_proj.fc"),
        (r"mixer\.value_mlp\.layers\.0", "att.v_proj.fc"),
        (r"mixer\.out", "att.out_proj"),
    )
    found = {}
    for name, value in model.state_dict().items():
        for ours, theirs in names:
            name = re.sub(ours, theirs, name)
        name = re.sub(
            r"fcs\.(\d)", lambda place: f"fcs.{int(place.group(1)) - 1}", name
        )
        found[name] = value.reshape(8, 5) if name.endswith("latent_q") else value
    return found


def test_a_single_linear_map_for_keys_and_values():
    model = FLARE(
        3, 8, 2, num_layers=2, heads=2, num_latents=5, kv_layers=-1, mlp_layers=0
    )
    state = to_reference(model)
    assert "blocks.1.att.k_proj.fc.weight" in state
    rebuilt = from_reference("flare", state, heads=2)
    assert (rebuilt.kv_layers, rebuilt.mlp_layers) == (-1, 0)
    x = torch.randn(20, 3)
    assert torch.equal(rebuilt(x), model(x))
    # The map is residual, as depth -1 of the reference is.
    k = rebuilt.blocks[0].mixer.key_mlp(x.repeat(1, 3)[:, :8])
    weight, bias = (state[f"blocks.0.att.k_proj.fc.{n}"] for n in ("weight", "bias"))
    wide = x.repeat(1, 3)[:, :8]
    torch.testing.assert_close(k, wide @ weight.T + bias + wide)
