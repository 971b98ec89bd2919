"""Checkpoints of reference implementations, one file per architecture."""

from torch_geometric_flare.interop.reference import from_reference

__all__ = ["from_reference"]
