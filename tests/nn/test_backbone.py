import pytest
import torch
from torch import nn

from torch_geometric_flare import FLARE, FLAREConv, PointBatch
from torch_geometric_flare.nn import ResidualBlock, predict_stream
from torch_geometric_flare.testing import (
    assert_batch_invariant,
    assert_chunk_invariant,
    assert_permutation_equivariant,
    assert_point_parallel,
)

from .sketches import Sketch, TwoEncodes, networks

KINDS = ["two_encodes", "once", "physics"]
SIZES = (1, 2, 63, 0, 300)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_stage_obeys_the_laws(kind):
    model = networks()[kind]
    assert_batch_invariant(model, 3, SIZES)
    assert_chunk_invariant(model, 3, 40, SIZES)
    x = torch.randn(100, 3, dtype=torch.float64)
    assert_permutation_equivariant(model, x, torch.arange(100) // 60)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_stage_on_points_spread_over_processes(kind):
    assert_point_parallel(networks()[kind], 3, sizes=(1, 40, 0, 60))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_stage_from_file_to_file(kind):
    model = networks()[kind]
    x = torch.randn(300, 3, dtype=torch.float64)
    y = torch.empty(300, 2, dtype=torch.float64)
    predict_stream(model, x, y, 64)
    torch.testing.assert_close(y, model(x), atol=1e-12, rtol=1e-12)


def test_second_derivatives_through_two_encodings_in_chunks():
    model = Sketch(4, [ResidualBlock(4, TwoEncodes(4, 3), nn.Identity())]).double()
    x = torch.randn(20, 3, dtype=torch.float64, requires_grad=True)
    results = []
    for size in (None, 7):
        model.chunk_size = size
        (first,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
        second = torch.autograd.grad(first.square().sum(), [x, *model.parameters()])
        results.append([first, *second])
    torch.testing.assert_close(*results, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("chunk_size", [None, 17])
@pytest.mark.parametrize("sizes", [(50, 60), (1, 600, 2)])
def test_a_layout_in_place_of_a_batch_vector(sizes, chunk_size):
    model = FLARE(3, 8, 2, num_layers=2, heads=2, num_latents=5, chunk_size=chunk_size)
    layout = PointBatch.from_sizes(sizes)
    x = torch.randn(sum(sizes), 3)
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    y = layout.unsort(model(layout.sort(x), layout))
    torch.testing.assert_close(y, model(x, batch))
    with pytest.raises(ValueError, match="batch has .* points but x has 3 rows"):
        model(x[:3], layout)


class Everywhere(nn.Module):
    """A mixer that sees all points at once."""

    def forward(self, x, batch=None):
        return x.mean(0).expand_as(x)


def test_a_mixer_without_a_state_says_so():
    model = Sketch(8, [ResidualBlock(8, Everywhere(), nn.Identity())])
    x = torch.randn(50, 3)
    assert model(x).shape == (50, 2)
    model.chunk_size = 10
    with pytest.raises(ValueError, match="Everywhere"):
        model(x)
    with pytest.raises(ValueError, match="Everywhere"):
        predict_stream(model, x, torch.empty(50, 2), 10)


def test_two_encodings_take_one_set_of_points():
    x = torch.randn(10, 8)
    with pytest.raises(ValueError, match="TwoEncodes encodes 2 times"):
        TwoEncodes(8)((x, x))
    assert FLAREConv(8, heads=2)((x, x[:3])).shape == (3, 8)
