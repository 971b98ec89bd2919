"""Data goes in, down and out: how far a call travels through the package."""

import sys
from pathlib import Path

import pytest
import torch
from torch_geometric.data import Batch, Data

import torch_geometric_flare
from torch_geometric_flare import FLARE, FLAREConv
from torch_geometric_flare.experiments import RunConfig
from torch_geometric_flare.experiments.command_line import run_parser
from torch_geometric_flare.experiments.options import parse
from torch_geometric_flare.kernels.llvm import is_available
from torch_geometric_flare.training import SurrogateModule
from torch_geometric_flare.transforms import Normalizer

ROOT = str(Path(torch_geometric_flare.__file__).parent)


def travel(function, *args):
    """Calls of the package's functions, their files, and moves from file to file."""
    calls, files, moves = 0, set(), 0

    def look(frame, event, _):
        nonlocal calls, moves
        name = frame.f_code.co_filename
        if event != "call" or not name.startswith(ROOT):
            return
        calls += 1
        files.add(name)
        caller = frame.f_back
        while caller is not None and not caller.f_code.co_filename.startswith(ROOT):
            caller = caller.f_back
        moves += caller is not None and caller.f_code.co_filename != name

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        function(*args)
    finally:
        sys.setprofile(before)
    return calls, len(files), moves


@pytest.mark.skipif(not is_available(), reason="no LLVM for this processor")
@pytest.mark.parametrize(
    ("chunk_size", "most"), [(None, (71, 13, 36)), (1000, (388, 21, 208))]
)
def test_a_forward_is_short(chunk_size, most):
    conv = FLAREConv(64, heads=8, num_latents=64, chunk_size=chunk_size)
    x, batch = torch.randn(3000, 64), torch.arange(3).repeat_interleave(1000)
    conv(x, batch)
    found = travel(conv, x, batch)
    assert all(a <= b for a, b in zip(found, most, strict=True)), found


@pytest.mark.skipif(not is_available(), reason="no LLVM for this processor")
def test_a_training_step_is_short():
    model = FLARE(3, 64, 4, num_layers=2, heads=8, num_latents=64)
    module = SurrogateModule(model, Normalizer.identity(4))
    samples = [Data(x=torch.rand(1000, 3), y=torch.rand(1000, 4)) for _ in range(2)]
    batch = Batch.from_data_list(samples)

    def step():
        module.measure(module(batch), batch)

    step()
    found = travel(step)
    assert all(a <= b for a, b in zip(found, (300, 31, 150), strict=True)), found


def test_a_command_line_is_short():
    def read():
        given = ["--problem=pipe", "--model=GNOT", "--num-train=3", "--steps=2"]
        config = RunConfig.from_options(parse(run_parser(None, "Train."), given))
        assert config.benchmark.recipe(config.model, config.recipe)

    read()
    found = travel(read)
    assert all(a <= b for a, b in zip(found, (63, 6, 4), strict=True)), found
