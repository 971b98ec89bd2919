import pytest
import torch

from torch_geometric_flare import FLARE, FLAREPP, FLAREConv, FLAREPPConv, Transolver
from torch_geometric_flare.analysis import (
    effective_rank,
    share_rank,
    spectra,
    spectrum,
    stable_rank,
)
from torch_geometric_flare.nn import LNO, LinearAttention, PhysicsAttention
from torch_geometric_flare.surrogates import GenerativeSurrogate, Surrogate
from torch_geometric_flare.testing import run_processes
from torch_geometric_flare.transforms import Normalizer

CONVS = {
    "FLAREConv": lambda: FLAREConv(6, heads=2, num_latents=5, scale=1.5),
    "shared latents": lambda: FLAREConv(6, heads=2, num_latents=5, shared_latents=True),
    "FLAREPPConv": lambda: FLAREPPConv(6, heads=2, num_latents=5),
}


def build(name="FLAREConv"):
    torch.manual_seed(0)
    return CONVS[name]().double()


def points(number=40, channels=6):
    return torch.randn(number, channels, dtype=torch.float64)


def dense(conv, x, weight=None):
    """The N x N matrices of all heads."""
    gather, scatter = conv.attention_weights(x, weight=weight)
    return torch.einsum("nhm,khm->hnk", scatter, gather)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", CONVS)
def test_eigenvalues_are_those_of_the_matrix(name, weighted):
    conv, x = build(name), points()
    weight = torch.rand(40).double() + 0.1 if weighted else None
    values = spectrum(conv, x, weight=weight).values
    matrix = dense(conv, x, weight)
    wanted = torch.linalg.eigvals(matrix).real.sort(descending=True).values
    torch.testing.assert_close(values[0], wanted[:, :5], atol=1e-10, rtol=1e-8)
    assert wanted[:, 5:].abs().max() < 1e-10


@pytest.mark.parametrize("name", CONVS)
def test_laws_of_the_eigenvalues(name):
    values = spectrum(build(name), points()).values
    torch.testing.assert_close(values[..., 0], torch.ones(1, 2).double())
    assert values.min() > -1e-12 and values.max() < 1 + 1e-12


@pytest.mark.parametrize("chunk_size", [None, 7])
@pytest.mark.parametrize("name", CONVS)
def test_eigenvectors_at_the_points(name, chunk_size):
    conv, x = build(name), points()
    values, vectors = spectrum(conv, x, num_vectors=3, chunk_size=chunk_size)
    matrix = dense(conv, x)
    for head in range(2):
        v = vectors[:, head]
        torch.testing.assert_close(matrix[head] @ v, v * values[0, head, :3])
    first = vectors[..., 0]
    torch.testing.assert_close(first, first[:1].expand_as(first))


@pytest.mark.parametrize("name", CONVS)
def test_graphs_chunks_and_order_change_nothing(name):
    conv, sizes = build(name), (30, 0, 3, 41)
    x = points(sum(sizes))
    batch = torch.arange(4).repeat_interleave(torch.tensor(sizes))
    together = spectrum(conv, x, batch, 4).values
    chunked = spectrum(conv, x, batch, 4, chunk_size=11).values
    torch.testing.assert_close(chunked, together)
    for graph, part in enumerate(x.split(sizes)):
        if len(part):
            alone = spectrum(conv, part[torch.randperm(len(part))]).values
            torch.testing.assert_close(together[graph], alone[0])
    assert torch.equal(together[1], torch.zeros(2, 5).double())


def _on_two_processes(conv, parts):
    group = torch.distributed.group.WORLD
    return spectrum(conv, parts[group.rank()], group=group).values


def test_processes_change_nothing():
    conv, x = build(), points()
    wanted = spectrum(conv, x).values
    for found in run_processes(_on_two_processes, 2, conv, [x[:9], x[9:]]):
        torch.testing.assert_close(found, wanted)


def test_slices_of_transolver():
    torch.manual_seed(0)
    conv, x = PhysicsAttention(6, heads=2, num_slices=5).double(), points()
    shares = conv.slice_weights(conv._split_heads(conv.point(x)))  # [N, H, G]
    token = torch.einsum("nhg,nhd->hgd", shares, conv._split_heads(conv.feature(x))) / (
        shares.sum(0)[..., None] + 1e-5
    )
    scores = conv.query(token) @ conv.key(token).mT / 3**0.5
    pool = shares.permute(1, 2, 0) / (shares.sum(0)[..., None] + 1e-5)
    matrix = shares.transpose(0, 1) @ scores.softmax(-1) @ pool
    wanted = torch.linalg.eigvals(matrix).abs().sort(descending=True).values
    found = spectrum(conv, x).values[0]
    torch.testing.assert_close(found, wanted[:, :5], atol=1e-10, rtol=1e-8)
    chunked = spectrum(conv, x, chunk_size=7).values[0]
    torch.testing.assert_close(chunked, found)


@pytest.mark.parametrize("chunk_size", [None, 9])
@pytest.mark.parametrize(
    "model",
    [
        lambda: FLARE(3, 8, 1, num_layers=2, heads=2, num_latents=4),
        lambda: FLAREPP(3, 8, 1, num_layers=2, heads=2, num_latents=4),
        lambda: Transolver(3, 8, 1, num_layers=2, heads=2, num_slices=4),
    ],
    ids=["FLARE", "FLAREPP", "Transolver"],
)
def test_spectra_of_all_blocks(model, chunk_size):
    model, x = model().double(), points(30, 3)
    found = spectra(model, x, chunk_size=chunk_size)
    features = model.lift(x)
    assert len(found) == 2
    for block, of_block in zip(model.blocks, found, strict=True):
        alone = spectrum(block.mixer, block.mixer_norm(features))
        torch.testing.assert_close(of_block, alone)
        features = block(features)


def test_eigenvectors_of_all_blocks_are_in_the_order_of_the_points():
    model = FLARE(3, 8, 1, num_layers=2, heads=2, num_latents=4).double()
    sizes = (10, 900, 20, 905)  # a layout in another order
    x = points(sum(sizes), 3)
    batch = torch.arange(4).repeat_interleave(torch.tensor(sizes))
    for found in (
        spectra(model, x, batch, num_vectors=2, chunk_size=c) for c in (None, 300)
    ):
        for graph in (0, 2):
            rows = batch == graph
            alone = spectra(model, x[rows], num_vectors=2)
            for one, of_block in zip(alone, found, strict=True):
                vectors, sign = of_block.vectors[rows], one.vectors[:1].sign()
                flip = sign * vectors[:1].sign()
                torch.testing.assert_close(vectors * flip, one.vectors)


@pytest.mark.parametrize("chunk_size", [None, 9])
def test_spectra_under_conditions(chunk_size):
    model = FLARE(3, 8, 1, 1, 2, 4, condition_channels=2).double()
    model.blocks[0].mixer_norm.modulation.data.normal_()
    x, u = points(30, 3), points(2, 2)
    batch = torch.tensor([0] * 10 + [1] * 20)
    (found,) = spectra(model, x, batch, u=u, chunk_size=chunk_size)
    inside = model.blocks[0].mixer_norm(model.lift(x), batch, u)
    alone = spectrum(model.blocks[0].mixer, inside, batch).values
    torch.testing.assert_close(found.values, alone)
    with pytest.raises(ValueError, match="u is None"):
        spectra(model, x, batch)


def test_ranks():
    values = torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, -1e-17]])
    torch.testing.assert_close(stable_rank(values), torch.tensor([1.0, 4, 2]))
    torch.testing.assert_close(effective_rank(values), torch.tensor([1.0, 4, 2]))
    assert share_rank(values).tolist() == [1, 4, 2]
    assert share_rank(values, 0.5).tolist() == [1, 2, 1]
    with pytest.raises(ValueError, match="share is 1"):
        share_rank(values, 1)


def test_refuses_what_has_no_spectrum():
    with pytest.raises(TypeError, match="conv"):
        spectrum(LinearAttention(4, heads=2), torch.randn(5, 4))
    for kind in (Surrogate, GenerativeSurrogate):
        channels = 1 if kind is GenerativeSurrogate else 0
        network = FLARE(2 + channels, 8, 1, 1, 2, condition_channels=channels)
        surrogate = kind(network, Normalizer.identity(1), Normalizer.identity(2))
        with pytest.raises(TypeError, match=f"{kind.__name__}.* model_arguments"):
            spectra(surrogate, points(4, 2))
        given = surrogate.model_arguments(points(4, 2))
        given = {name: given[name] for name in ("x", "u") if name in given}
        assert len(spectra(surrogate.model, **given)) == 1
    with pytest.raises(TypeError, match="model"):
        spectra(LNO(3, 8, 1), torch.randn(5, 3))
    with pytest.raises(ValueError, match="num_vectors"):
        spectrum(build(), points(), num_vectors=6)
    with pytest.raises(ValueError, match="latent_blocks=2"):
        spectra(FLARE(3, 8, 1, 1, 2, 4, latent_blocks=2), torch.randn(5, 3))


@pytest.mark.parametrize("size", [10.0, 100.0, 1e4])
def test_large_scores(size):
    conv, x = build().float(), points().float()
    conv.latents.data = size * torch.randn_like(conv.latents)
    values, vectors = spectrum(conv, x, num_vectors=3)
    assert values.min() > -1e-6 and values.max() < 1 + 1e-6
    assert (values.diff(dim=-1) <= 0).all()
    torch.testing.assert_close(values[..., 0], torch.ones(1, 2).double())
    assert vectors.isfinite().all() and vectors.abs().max() <= 1 + 1e-6


@pytest.mark.parametrize("module", [FLAREConv, FLAREPPConv, PhysicsAttention])
def test_input_that_is_not_finite(module):
    with pytest.raises(ValueError, match=r"\bx\b"):
        spectrum(module(6, heads=2), points().float() * torch.nan)


def test_rank_of_no_points():
    values = spectrum(build(), points(0)).values
    assert torch.equal(effective_rank(values), torch.zeros(1, 2).double())


def test_negative_chunk_size_of_spectra():
    with pytest.raises(ValueError, match="chunk_size is -1"):
        spectra(FLARE(6, 8, 1, num_layers=1, heads=2), points().float(), chunk_size=-1)
