"""Low-rank adapters of `peft` in every model: used, trained alone, and mergeable."""

import pytest
import torch
import torch_geometric
from torch import nn

from torch_geometric_flare.nn import models, predict_stream
from torch_geometric_flare.testing import assert_chunk_invariant

from .test_laws import EXEMPT, IN_ORDER, MODELS, WITH_EDGES, WITH_QUERIES

peft = pytest.importorskip("peft", reason="needs the extra peft")

# Large enough for the layers that are computed without calling them.
WIDE = {
    "FLARE": lambda: models.FLARE(3, 64, 2, num_layers=1, heads=4, num_latents=8),
    "FLAREPP": lambda: models.FLAREPP(3, 64, 2, num_layers=1, heads=4, num_latents=8),
}
ALL = {
    **MODELS,
    **{f"{name}, wide": make for name, make in WIDE.items()},
    **WITH_EDGES,
    **WITH_QUERIES,
}
CHUNKED = [
    name for name in ALL if name not in EXEMPT["chunks"] and name not in WITH_EDGES
]


def config_of(model):
    """Adapters of all linear maps, also where they are the layers of PyG."""
    weights = [
        f"{part}.weight"
        for part, module in model.named_modules()
        if isinstance(module, torch_geometric.nn.Linear)
    ]
    modules = [] if weights else "all-linear"
    return peft.LoraConfig(
        r=2, lora_alpha=4, target_modules=modules, target_parameters=weights
    )


def adapted(name, seed=0):
    """A model in double precision, and the same with adapters that matter."""
    torch.manual_seed(seed)
    model = ALL[name]().double()
    if hasattr(model, "blocks"):
        del model.blocks[1:]  # the others are the same
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    x = torch.rand(400 if "wide" in name else 20, 3, dtype=torch.float64)
    before = model(x).detach()
    linear = (nn.Linear, torch_geometric.nn.Linear)
    maps = sum(isinstance(module, linear) for module in model.modules())
    wrapped = peft.get_peft_model(model, config_of(model))
    assert wrapped.base_model.model is model  # adapted in place
    torch.testing.assert_close(model(x), before)  # new adapters are zero
    assert sum("lora_B" in part for part, _ in model.named_parameters()) == maps > 0
    with torch.no_grad():
        for part, parameter in model.named_parameters():
            if "lora_" in part:
                parameter.normal_(std=0.3)
    return model, wrapped, x, before


def test_every_model_is_here():
    made = {
        type(getattr(model, "model", model)) for model in (m() for m in ALL.values())
    }
    assert made == {getattr(models, n) for n in models.__all__ if n not in IN_ORDER}


@pytest.mark.parametrize("name", ALL)
def test_every_adapter_changes_the_output(name):
    model, _, x, before = adapted(name)
    full = model(x).detach()
    assert (full - before).norm() > 1e-3 * before.norm()
    for part, parameter in model.named_parameters():
        if "lora_B" in part:
            kept = parameter.detach().clone()
            with torch.no_grad():
                parameter.zero_()
                assert not torch.equal(model(x), full), part
                parameter.copy_(kept)


@pytest.mark.parametrize("name", ALL)
def test_gradients_reach_the_adapters_alone(name):
    model, _, x, _ = adapted(name)
    model(x).square().sum().backward()
    for part, parameter in model.named_parameters():
        is_adapter = "lora_" in part
        assert parameter.requires_grad == is_adapter, part
        assert (parameter.grad is not None) == is_adapter, part
        assert not is_adapter or parameter.grad.any(), part


@pytest.mark.parametrize("name", ALL)
def test_merging_gives_the_same_plain_model(name):
    model, wrapped, x, _ = adapted(name)
    expected = model(x).detach()
    merged = wrapped.merge_and_unload()
    assert merged is model
    assert not any("lora" in part for part, _ in merged.named_modules())
    torch.testing.assert_close(merged(x), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", CHUNKED)
def test_in_chunks(name):
    model, wrapped, x, _ = adapted(name)
    sizes = (20, 0, 20) if name in EXEMPT["sizes"] else (1, 30, 0, 20)
    assert_chunk_invariant(model, 3, 7, sizes, atol=1e-9)
    expected = model(x).detach()
    merged = wrapped.merge_and_unload()
    merged.chunk_size = 7
    torch.testing.assert_close(merged(x), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", ["FLARE", "LNO"])
def test_from_file_to_file(name):
    model, _, x, _ = adapted(name)
    y = torch.empty(len(x), 2, dtype=x.dtype)
    predict_stream(model, x, y, 7)
    torch.testing.assert_close(y, model(x))
