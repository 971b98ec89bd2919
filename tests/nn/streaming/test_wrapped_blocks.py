"""Blocks in wrappers run in chunks and from file to file."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    checkpoint_wrapper,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from torch_geometric_flare.nn import FLARE, GNOT, LNO, PerceiverIO, predict_stream

SIZES = {"heads": 2, "num_layers": 2}
NETWORKS = {
    "flare": lambda: FLARE(3, 8, 1, num_latents=4, **SIZES),
    "gnot": lambda: GNOT(3, 8, 1, **SIZES),
    "lno": lambda: LNO(3, 8, 1, num_modes=4, **SIZES),
    "perceiver_io": lambda: PerceiverIO(3, 8, 1, num_latents=4, **SIZES),
}


class Other(nn.Module):
    """As peft's `modules_to_save`: a copy of the block takes every call."""

    def __init__(self, block):
        super().__init__()
        self.original = block
        self.copy = copy.deepcopy(block)

    def __getattr__(self, name):
        if name in ("original", "copy"):
            return super().__getattr__(name)
        return getattr(self.copy, name)

    def forward(self, x, *args, **kwargs):
        return self.copy(x, *args, **kwargs)


WRAPPERS = {
    "checkpoint": checkpoint_wrapper,
    "compile": lambda block: torch.compile(block, backend="eager"),
    "copy": Other,
}


def network(name):
    torch.manual_seed(0)
    return NETWORKS[name]().double()


def wrapped(name, wrap):
    model = network(name)
    for number, block in enumerate(model.blocks):
        model.blocks[number] = wrap(block)
    return model


def points():
    return torch.rand(20, 3, dtype=torch.float64)


def values_and_gradients(model, x):
    y = model(x)
    y.square().sum().backward()
    return y.detach(), [p.grad for p in model.parameters() if p.grad is not None]


# Dynamo asks every tensor that it is given for its gradient.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_wrapped_blocks_run_in_chunks(name, wrapper):
    x = points()
    plain, model = network(name), wrapped(name, WRAPPERS[wrapper])
    model.chunk_size = plain.chunk_size = 12
    expected, gradients = values_and_gradients(plain, x)
    y, found = values_and_gradients(model, x)
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found, gradients, rtol=1e-10, atol=1e-10)
    out = torch.empty_like(y)
    predict_stream(model, x, out, 12)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)


@pytest.fixture
def one_process(tmp_path):
    dist.init_process_group("gloo", f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_sharded_blocks_predict_in_chunks_and_refuse_to_train(one_process):
    x = points()
    expected = network("flare")(x)
    model = network("flare")
    for block in model.blocks:
        fully_shard(block, mesh=one_process)
    model.chunk_size = 12
    with torch.no_grad():
        torch.testing.assert_close(model(x), expected, rtol=1e-10, atol=1e-10)
    with pytest.raises(ValueError, match=r"sharded .* set chunk_size=None to train"):
        model(x)
    out = torch.empty_like(expected)
    predict_stream(model, x, out, 12)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
    fully_shard(model, mesh=one_process)
    with pytest.raises(ValueError, match=r"call model.unshard\(\) first"):
        predict_stream(model, x, out, 12)
    model.unshard()
    predict_stream(model, x, out.zero_(), 12)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
