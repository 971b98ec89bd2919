"""Operators on `x` and `batch`, in the manner of `torch_geometric.nn.conv`."""

from torch_geometric_flare.nn.conv.flare_conv import FLAREConv

__all__ = ["FLAREConv"]
