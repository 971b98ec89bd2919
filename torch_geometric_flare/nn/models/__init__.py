"""Whole surrogates, one architecture a file."""

from torch_geometric_flare.nn.models.flare import FLARE
from torch_geometric_flare.nn.models.flare_hybrid import FLAREHybrid
from torch_geometric_flare.nn.models.mesh_graph_net import MeshGraphNet

__all__ = ["FLARE", "FLAREHybrid", "MeshGraphNet"]
