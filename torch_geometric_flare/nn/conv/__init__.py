"""Operators on `x` and `batch`, like those of `torch_geometric.nn.conv`."""

from torch_geometric_flare.nn.conv.causal_flare import CausalFLAREConv
from torch_geometric_flare.nn.conv.flare_conv import FLAREConv
from torch_geometric_flare.nn.conv.flarepp_conv import FLAREPPConv
from torch_geometric_flare.nn.conv.gps_flare_conv import GPSFLAREConv
from torch_geometric_flare.nn.conv.local_conv import LocalConv
from torch_geometric_flare.nn.conv.mesh_graph_conv import MeshGraphConv

__all__ = [
    "CausalFLAREConv",
    "FLAREConv",
    "FLAREPPConv",
    "GPSFLAREConv",
    "LocalConv",
    "MeshGraphConv",
]
