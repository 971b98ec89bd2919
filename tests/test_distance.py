"""Data goes in, down and out: how far a forward travels through the package."""

import sys
from pathlib import Path

import pytest
import torch

import torch_geometric_flare
from torch_geometric_flare import FLAREConv
from torch_geometric_flare.kernels.llvm import is_available

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
