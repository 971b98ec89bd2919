"""Latents that conditions of each graph move."""

import pytest
import torch
from torch import nn
from torch_geometric.utils import to_dense_batch

from torch_geometric_flare import FLARE, FLAREConv
from torch_geometric_flare.analysis import spectra, spectrum
from torch_geometric_flare.functional import PointBatch, reference_flare_attention
from torch_geometric_flare.nn import ResidualBlock, grow_latents
from torch_geometric_flare.testing import (
    assert_batch_invariant,
    assert_chunk_invariant,
    assert_point_parallel,
    assert_weights_split,
)
from torch_geometric_flare.transforms import fourier_features

from ..sketches import Conditioned, conditions

OPTIONS = [
    {"condition_channels": 3},
    {"condition_channels": 3, "condition_octaves": 3, "shared_latents": True},
    {"condition_channels": 3, "qk_norm": True, "latent_blocks": 1},
]
BATCH = torch.tensor([0] * 10 + [1] * 3 + [3] * 27)


def conv_of(in_channels=6, **options):
    torch.manual_seed(0)
    conv = FLAREConv(in_channels, 6, heads=2, num_latents=5, scale=0.7, **options)
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.normal_(std=0.5)
    return conv.double()


def points(n=40):
    return torch.randn(n, 6, dtype=torch.float64)


def latents_of(conv, u):
    """The latents of one graph by the formula, [H, M, D]."""
    encoded = u
    if conv.condition_octaves:
        encoded = torch.cat([u, fourier_features(u, conv.condition_octaves)], dim=1)
    return conv.latents + torch.einsum("hmde,e->hmd", conv.modulation, encoded[0])


def with_latents(conv, u):
    """The operator whose latents are those of one graph."""
    fixed = conv_of(qk_norm=conv.qk_norm, latent_blocks=conv.latent_blocks)
    state = {k: v for k, v in conv.state_dict().items() if k != "modulation"}
    state["latents"] = latents_of(conv, u).expand(2, -1, -1)
    fixed.load_state_dict(state)
    return fixed


@pytest.mark.parametrize("octaves", [0, 3])
@pytest.mark.parametrize("shared", [True, False])
def test_formula(octaves, shared):
    conv = conv_of(
        condition_channels=3, condition_octaves=octaves, shared_latents=shared
    )
    x, u = points().requires_grad_(), conditions(4).requires_grad_()
    leaves = [x, u, *conv.parameters()]

    def reference():
        rows = []
        for g in (0, 1, 3):
            q = latents_of(conv, u[g : g + 1]).expand(2, -1, -1)
            k, v = (
                mlp(x[g == BATCH]).unflatten(1, (2, 3)).transpose(0, 1)[None]
                for mlp in (conv.key_mlp, conv.value_mlp)
            )
            y = reference_flare_attention(q, k, v, scale=0.7)
            rows.append(conv.out(y[0].transpose(0, 1).flatten(1)))
        return torch.cat(rows)

    found, wanted = (
        [y, *torch.autograd.grad(y.cos().sum(), leaves)]
        for y in (conv(x, BATCH, u=u), reference())
    )
    torch.testing.assert_close(found, wanted, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("options", OPTIONS)
def test_each_graph_has_an_operator_of_its_own(options):
    conv, x, u = conv_of(**options), points(), conditions(4)
    y = conv(x, BATCH, u=u)
    for g in (0, 1, 3):
        alone = with_latents(conv, u[g : g + 1])(x[g == BATCH])
        torch.testing.assert_close(y[g == BATCH], alone)


@pytest.mark.parametrize("options", OPTIONS)
def test_laws(options):
    conv = conv_of(**options)
    assert_batch_invariant(Conditioned(conv, of_points=True), 6, (1, 2, 63, 0, 300))
    assert_chunk_invariant(Conditioned(conv), 6, 7, (0, 0, 63, 3, 4, 60), atol=1e-9)
    assert_weights_split(Conditioned(conv), 6)


def test_processes_change_nothing():
    module = Conditioned(conv_of(**OPTIONS[1]))
    assert_point_parallel(module, 6, sizes=(20, 0, 40, 3), atol=1e-9)


@pytest.mark.parametrize("options", OPTIONS)
def test_starts_as_the_operator_without(options):
    torch.manual_seed(0)
    conv = FLAREConv(6, heads=2, num_latents=5, **options)
    torch.manual_seed(0)
    given = {k: v for k, v in options.items() if not k.startswith("condition")}
    without, x = FLAREConv(6, heads=2, num_latents=5, **given), torch.randn(40, 6)
    torch.testing.assert_close(conv(x, BATCH, u=torch.randn(4, 3)), without(x, BATCH))


@pytest.mark.parametrize("options", OPTIONS)
def test_other_ways_to_call(options):
    conv, x, u = conv_of(**options), points(), conditions(4)
    y = conv(x, BATCH, u=u)
    layout = PointBatch.from_batch(x, BATCH, u=u)
    by_layout = layout.unsort(conv(layout.sort(x), layout))
    torch.testing.assert_close(by_layout, y)
    torch.testing.assert_close(conv.decode(conv.encode(x, BATCH, u=u), x, BATCH, u), y)
    padded, mask = to_dense_batch(x, BATCH)
    torch.testing.assert_close(conv(padded, mask, u=u)[mask], y)
    halves = [conv.encode(part, u=u[:1]) for part in x.split(15)]
    merged = conv.decode(halves[0].merge(halves[1]).merge(halves[2]), x, u=u[:1])
    torch.testing.assert_close(merged, conv(x, u=u[:1]))


def test_sources_and_queries():
    conv, x, u = conv_of((6, 4), condition_channels=3), points(), conditions(4)
    query = torch.randn(7, 4, dtype=torch.float64)
    graph = torch.tensor([0, 0, 1, 3, 3, 3, 3])
    y = conv((x, query), (BATCH, graph), u=u)
    for g in (0, 1, 3):
        alone = conv((x[g == BATCH], query[graph == g]), u=u[g : g + 1])
        torch.testing.assert_close(y[graph == g], alone)


def test_weights_and_spectrum_of_each_graph():
    conv, x, u = conv_of(condition_channels=3), points(), conditions(4)
    gather, scatter = conv.attention_weights(x, BATCH, u=u)
    layout = PointBatch.from_batch(x, BATCH, u=u)
    values = spectrum(conv, layout.sort(x), layout).values
    for g in (0, 1, 3):
        alone = with_latents(conv, u[g : g + 1])
        expected = alone.attention_weights(x[g == BATCH])
        torch.testing.assert_close((gather[g == BATCH], scatter[g == BATCH]), expected)
        torch.testing.assert_close(values[g], spectrum(alone, x[g == BATCH]).values[0])


def test_spectra_of_a_network():
    model = FLARE(6, 6, 1, 2, 2, 5, condition_channels=3, latent_conditions=True)
    with torch.no_grad():
        for block in model.blocks:
            block.mixer.modulation.normal_()
    x, u = torch.randn(40, 6), torch.randn(2, 3)
    batch = torch.arange(40) // 25
    together = spectra(model, x, batch, u=u, chunk_size=9)
    for g in range(2):
        alone = spectra(model, x[batch == g], u=u[g : g + 1])
        for one, other in zip(alone, together, strict=True):
            torch.testing.assert_close(
                one.values[0], other.values[g], atol=1e-6, rtol=1e-4
            )


@pytest.mark.parametrize("options", OPTIONS)
def test_growth_is_exact(options):
    conv, x, u = conv_of(**options), points(), conditions(4)
    grown = grow_latents(conv, 3)
    torch.testing.assert_close(
        grown(x, BATCH, u=u), conv(x, BATCH, u=u), atol=1e-12, rtol=0
    )


def test_wrong_conditions():
    conv, x = conv_of(condition_channels=3), points()
    with pytest.raises(ValueError, match="u is None"):
        conv(x)
    with pytest.raises(ValueError, match=r"u has shape \(1, 2\)"):
        conv(x, u=torch.randn(1, 2).double())
    with pytest.raises(ValueError, match=r"u has shape \(1, 3\)"):
        conv_of()(x, u=conditions(1))
    with pytest.raises(ValueError, match=r"u has shape \(1, 3\)"):
        conv_of().encode(x, u=conditions(1))
    with pytest.raises(ValueError, match="condition_channels is -1"):
        FLAREConv(8, condition_channels=-1)
    with pytest.raises(ValueError, match="condition_octaves is 1.5"):
        FLAREConv(8, condition_channels=1, condition_octaves=1.5)
    with pytest.raises(ValueError, match="condition_octaves is 2"):
        FLAREConv(8, condition_octaves=2)
    with pytest.raises(ValueError, match="condition_octaves is 2"):
        FLARE(3, 8, 1, condition_octaves=2)
    with pytest.raises(ValueError, match="condition_octaves is 2"):
        ResidualBlock(8, conv_of(), nn.Identity(), condition_octaves=2)
    with pytest.raises(ValueError, match="latent_conditions"):
        FLARE(3, 8, 1, latent_conditions=True)
