"""Machine code for CPUs: tensors in, tensors out, no autograd."""
