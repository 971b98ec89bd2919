"""Computation on more points than fit in memory: in chunks and from file to file."""

from torch_geometric_flare.nn.streaming.stage import Stage

__all__ = ["Stage"]
