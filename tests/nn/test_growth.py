import pytest
import torch

from torch_geometric_flare import FLARE, FLAREConv, FLAREPPConv
from torch_geometric_flare.nn import (
    FLAREPP,
    FLAREHybrid,
    LatentReadout,
    PerceiverIO,
    Transolver,
    grow_latents,
)
from torch_geometric_flare.surrogates.description import describe_model
from torch_geometric_flare.testing import assert_chunk_invariant, assert_point_parallel

BATCH = torch.tensor([0] * 10 + [1] * 3 + [3] * 50)
SMALL = {"num_layers": 2, "heads": 2, "num_latents": 3}


def networks():
    return [
        FLAREConv(8, heads=2, num_latents=3, scale=0.7),
        FLAREConv(8, heads=2, num_latents=3, qk_norm=True, init="paper"),
        FLAREConv(8, heads=2, num_latents=3, shared_latents=True, latent_blocks=2),
        FLAREPPConv(8, heads=2, num_latents=3),
        FLARE(8, 8, 8, **SMALL),
        FLAREPP(8, 8, 8, **SMALL),
    ]


def wide(model):
    """With latents large enough for attention to be far from uniform."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("latents", "seeds")):
                parameter.normal_()
    return model.double()


def outputs_and_gradients(model, x, batch):
    x = x.clone().requires_grad_()
    y = model(x, batch)
    weights = dict(model.named_parameters())
    grads = torch.autograd.grad(y.sin().sum(), [x, *weights.values()])
    return y, grads[0], dict(zip(weights, grads[1:], strict=True))


@pytest.mark.parametrize("model", networks(), ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_growth_changes_nothing(model, factor):
    model, x = wide(model), torch.randn(63, 8, dtype=torch.float64)
    grown = grow_latents(model, factor)
    y, dx, before = outputs_and_gradients(model, x, BATCH)
    y2, dx2, after = outputs_and_gradients(grown, x, BATCH)
    torch.testing.assert_close(y2, y, rtol=0, atol=1e-12)
    torch.testing.assert_close(dx2, dx, rtol=0, atol=1e-11)
    for name, gradient in before.items():
        if name.endswith(("latents", "seeds")):
            # The copies share the gradient of their latent.
            gradient = gradient.repeat_interleave(factor, dim=1) / factor
        torch.testing.assert_close(after[name], gradient, rtol=1e-9, atol=1e-11)
    assert grown.num_latents == 3 * factor
    assert model.num_latents == 3


@pytest.mark.parametrize("kind", [FLAREConv, FLAREPPConv])
def test_a_grown_operator_keeps_the_laws(kind):
    conv = wide(kind(8, heads=2, num_latents=3))
    grown, x = grow_latents(conv, 4), torch.randn(63, 8, dtype=torch.float64)
    assert_chunk_invariant(grown, 8, 17, (1, 2, 63, 0, 50), atol=1e-9)
    assert_point_parallel(grown, 8, sizes=(20, 0, 9))
    whole = conv(x, BATCH)
    grown.chunk_size = 7
    torch.testing.assert_close(grown(x, BATCH), whole, rtol=0, atol=1e-12)


def test_noise_comes_in_opposite_pairs():
    conv = wide(FLAREConv(8, heads=2, num_latents=5))
    seeded = [torch.Generator().manual_seed(3) for _ in range(2)]
    grown, again = (grow_latents(conv, 3, noise=0.1, generator=g) for g in seeded)
    assert torch.equal(grown.latents, again.latents)
    copies = grown.latents.view(2, 5, 3, 4)
    torch.testing.assert_close(copies.mean(2), conv.latents)
    moved = (copies - conv.latents[:, :, None]).abs()
    assert torch.all(moved[:, :, :2] > 0)
    assert torch.all(moved[:, :, 2] == 0)
    assert 0.05 < moved[:, :, :2].square().mean().sqrt() / conv.latents.std() < 0.2


def test_the_description_has_the_grown_number():
    described = describe_model(grow_latents(FLARE(3, 8, 1, **SMALL), 4))
    assert described["arguments"]["num_latents"] == 12
    hybrid = FLAREHybrid(3, 8, 1, pos_channels=3, radius=0.1, **SMALL)
    assert describe_model(grow_latents(hybrid, 2))["arguments"]["num_latents"] == 6


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (PerceiverIO(3, 8, 1, **SMALL), "latents"),
        (LatentReadout(3, 8, 1, heads=2, num_latents=3), "LatentReadout"),
        (Transolver(3, 8, 1, num_layers=1, heads=2), "Transolver"),
        (torch.nn.Linear(3, 3), "Linear"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_networks_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        grow_latents(model, 2)


def test_arguments_are_checked():
    conv = FLAREConv(8, heads=2, num_latents=3)
    with pytest.raises(ValueError, match="factor"):
        grow_latents(conv, 0)
    with pytest.raises(ValueError, match=r"noise is -0\.1"):
        grow_latents(conv, 2, noise=-0.1)
