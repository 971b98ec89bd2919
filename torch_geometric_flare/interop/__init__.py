"""Conversion of checkpoints of reference implementations."""

from torch_geometric_flare.interop.reference import from_reference

__all__ = ["from_reference"]
