import pytest
import torch
import torch.distributed as dist

from torch_geometric_flare import FLARE, FLAREConv
from torch_geometric_flare.testing import run_processes


def build(rank, change):
    torch.manual_seed(0)
    options = {"num_layers": 2, "heads": 2, "num_latents": 5}
    if change in options and rank == 1:
        options[change] *= 2
    model = FLARE(3, 8, 1, scale=2.0 if change == "scale" and rank else 1.0, **options)
    x = torch.randn(20, 3)
    if rank == 1:
        if change == "weights":
            with torch.no_grad():
                model.head.layers[0].weight[0, 0] += 1e-6
        if change == "dtype":
            model, x = model.double(), x.double()
        if change == "chunk_size":
            model.chunk_size = 7
        if change == "mode":
            model.eval()
    return model, x


def run(change, conv):
    rank = dist.get_rank()
    model, x = build(rank, change)
    if conv:
        model, x = model.blocks[0].mixer, x.repeat(1, 3)[:, :8]
    try:
        model(x, group=dist.group.WORLD)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("weights", "differ in weights"),
        ("dtype", "differ in configuration and precision and weights"),
        ("num_latents", "differ in configuration and weights"),
        ("num_layers", "differ in configuration and weights"),
        ("scale", "differ in configuration and weights"),
        ("chunk_size", None),
        ("mode", None),
        ("nothing", None),
    ],
)
def test_processes_that_differ_get_a_sentence(change, message):
    for found in run_processes(run, 2, change, False):
        assert message in found if message else found == ""


def test_operators_alone_too():
    for found in run_processes(run, 2, "num_latents", True):
        assert "differ in configuration and weights" in found
    assert run_processes(run, 2, "nothing", True) == ["", ""]


def pair(_):
    conv = FLAREConv(4, heads=2, num_latents=3)
    if dist.get_rank():
        conv.scale = 0.5
    try:
        conv((torch.randn(5, 4), torch.randn(3, 4)), group=dist.group.WORLD)
    except ValueError as error:
        return str(error)
    return ""


def test_pairs_too():
    for found in run_processes(pair, 2, None):
        assert "differ in configuration" in found
