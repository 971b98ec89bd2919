"""Whole surrogates, one architecture a file."""

from torch_geometric_flare.nn.models.flare import FLARE

__all__ = ["FLARE"]
