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
    with pytest.raises(ValueError, match=r"grid is \(5, 4\), but 'flare'"):
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
    """The parameters of a FLARE under the names of the reference."""
    names = (
        (r"^lift\.", "in_proj."),
        (r"^head\.", "out_proj.1."),
        (r"^norm", "out_proj.0"),
        (r"mixer_norm", "norm1"),
        (r"feed_forward_norm", "norm2"),
        (r"feed_forward\.", "mlp."),
        (r"mixer\.latents", "att.latent_q"),
        (r"mixer\.(query|key)_norm", lambda match: f"att.{match[1][0]}_norm"),
        (r"mixer\.(key|value)_mlp", lambda match: f"att.{match[1][0]}_proj"),
        (r"mixer\.out", "att.out_proj"),
    )
    found, own = {}, model.state_dict()
    for name, value in own.items():
        theirs = name
        for ours, replacement in names:
            theirs = re.sub(ours, replacement, theirs)
        if ".layers." in name:
            mlp, place = name.split(".layers.")
            depth = sum(k.startswith(f"{mlp}.layers.") for k in own) // 2 - 2
            place, kind = place.split(".")
            layer = "fc1" if place == "0" else f"fcs.{int(place) - 1}"
            layer = "fc2" if int(place) == depth + 1 else layer
            layer = "fc" if depth == -1 else layer
            theirs = f"{theirs.split('.layers.')[0]}.{layer}.{kind}"
        latent = name.endswith("latents")
        found[theirs] = value.reshape(8, 5) if latent else value
    return found


def small(**options):
    return FLARE(3, 8, 2, num_layers=2, heads=2, num_latents=5, **options)


@pytest.mark.parametrize("kv_layers", [-1, 0, 2])
@pytest.mark.parametrize("mlp_layers", [-1, 1])
@pytest.mark.parametrize("lift_layers", [-1, 0, 2])
def test_every_depth(kv_layers, mlp_layers, lift_layers):
    depths = {
        "kv_layers": kv_layers,
        "mlp_layers": mlp_layers,
        "lift_layers": lift_layers,
    }
    model = small(**depths)
    rebuilt = from_reference("flare", to_reference(model), heads=2)
    assert {name: getattr(rebuilt, name) for name in depths} == depths
    x = torch.randn(20, 3)
    assert torch.equal(rebuilt(x), model(x))


def test_the_ends_as_single_linear_maps_add_nothing():
    # As the reference: its input map has no input residual, its output map no other.
    model = FLARE(8, 8, 8, num_layers=1, heads=2, num_latents=5, lift_layers=-1)
    x = torch.randn(20, 8)
    for mlp in (model.lift, model.head):
        layer = mlp.layers[0]
        torch.testing.assert_close(mlp(x), x @ layer.weight.T + layer.bias)


def test_silu():
    model = small(act="silu")
    state, x = to_reference(model), torch.randn(20, 3)
    assert torch.equal(from_reference("flare", state, heads=2, act="silu")(x), model(x))
    assert not torch.equal(from_reference("flare", state, heads=2)(x), model(x))
    arrays, state = load("transformer")
    with pytest.raises(ValueError, match="act is 'silu', but 'transformer'"):
        from_reference("transformer", state, heads=2, act="silu")


def refused(change, **options):
    state = to_reference(small(**options))
    change(state)
    with pytest.raises(ValueError) as error:
        from_reference("flare", state, heads=2)
    return str(error.value)


def drop(state, pattern):
    for name in [name for name in state if re.search(pattern, name)]:
        del state[name]


def widen(state, mlp):
    state[f"{mlp}.fc1.weight"] = torch.zeros(16, 8)


def test_options_that_flare_has_not_are_named():
    found = refused(lambda state: drop(state, r"norm\d.bias"))
    assert "rmsnorm=True" in found
    found = refused(lambda state: drop(state, r"^out_proj\.0"))
    assert "out_proj_norm=False" in found
    for mlp in ("blocks.0.mlp", "blocks.0.att.k_proj"):
        found = refused(lambda state, mlp=mlp: widen(state, mlp))
        assert f"{mlp} has a hidden width of 16, an MLP ratio of 2" in found
    found = refused(lambda state: drop(state, r"att.v_proj.fcs.2"))
    assert "k_proj.* has depth 3 and blocks.0.att.v_proj.* 2" in found
    found = refused(lambda state: None, qk_norm=True)
    assert "qk_norm is False" in found and "pass qk_norm=True" in found


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
