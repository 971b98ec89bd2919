import subprocess
import sys

import pytest
import torch

from torch_geometric_flare.kernels import llvm


def test_the_package_runs_without_llvm():
    code = """
import sys
sys.modules["llvmlite"] = None
import torch
from torch_geometric_flare import FLARE
from torch_geometric_flare.kernels import llvm
FLARE(3, 16, 1, num_layers=1, heads=2)(torch.rand(2000, 3)).sum().backward()
assert not llvm.is_available()
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


@pytest.mark.skipif(not llvm.is_available(), reason="no LLVM for this processor")
def test_vectors_are_those_of_the_processor():
    assert llvm.vector_bytes() in (16, 32, 64)
    assert llvm.lanes(torch.float32) == 2 * llvm.lanes(torch.float64)


@pytest.mark.skipif(not llvm.is_available(), reason="no LLVM for this processor")
def test_an_engine_may_go_before_another_comes():
    code = f"define void @{llvm.WORKER}(ptr %0) {{ ret void }}"
    for _ in range(3):
        llvm.compile_kernel(code)(torch.zeros(1, 4, dtype=torch.long), 1)
