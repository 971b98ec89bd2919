"""Compiled CPU kernels on tensors, without autograd."""

from torch_geometric_flare.kernels.llvm import is_available

__all__ = ["is_available"]
