"""Machine code for CPUs: tensors in, tensors out, no autograd."""

from torch_geometric_flare.kernels.llvm import is_available

__all__ = ["is_available"]
