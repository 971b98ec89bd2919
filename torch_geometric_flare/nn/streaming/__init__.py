"""Networks past memory: stages, in chunks that are recomputed, and file to file."""

from torch_geometric_flare.nn.streaming.stage import Stage

__all__ = ["Stage"]
