import pytest
import torch

from torch_geometric_flare import FLAREPP, from_reference

from .golden import check_parity, cosines, load


def test_parity():
    arrays, state = load("flarepp")
    model = from_reference("flarepp", state, heads=2)
    assert isinstance(model, FLAREPP) and not model.training
    check_parity(model, arrays)


def test_gradients_of_the_parameters():
    arrays, state = load("flarepp")
    model = from_reference("flarepp", state, heads=2)
    batch = torch.arange(2).repeat_interleave(40)
    y = model(arrays["x"].flatten(0, 1), batch)
    (y * cosines(y)).sum().backward()
    grads = {k[5:]: v for k, v in arrays.items() if k.startswith("grad/")}
    expected = from_reference("flarepp", grads, heads=2).state_dict()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-9, rtol=0)


def test_errors():
    _, state = load("flarepp")
    with pytest.raises(ValueError, match="heads is 3"):
        from_reference("flarepp", state, heads=3)
    with pytest.raises(ValueError, match=r"seeds has shape \(2, 4, 8\), expected"):
        from_reference("flarepp", state, heads=4)
    with pytest.raises(ValueError, match="scale is 1.0, but 'flarepp'"):
        from_reference("flarepp", state, heads=2, scale=1.0)
    with pytest.raises(ValueError, match=r"unknown \['surplus'\]"):
        from_reference("flarepp", {**state, "surplus": torch.zeros(1)}, heads=2)
    del state["blocks.1.mixer.gate_logit"]
    with pytest.raises(ValueError, match=r"missing \['blocks.1.mixer.gate'\]"):
        from_reference("flarepp", state, heads=2)
    with pytest.raises(ValueError, match="has no 'in_proj.fc1.weight'"):
        from_reference("flarepp", {}, heads=2)
