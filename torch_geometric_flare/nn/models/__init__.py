"""Surrogate networks, one architecture per file."""

from torch_geometric_flare.nn.models.deeponet import DeepONet
from torch_geometric_flare.nn.models.flare import FLARE
from torch_geometric_flare.nn.models.flare_hybrid import FLAREHybrid
from torch_geometric_flare.nn.models.flare_query import FLAREQuery
from torch_geometric_flare.nn.models.flarepp import FLAREPP
from torch_geometric_flare.nn.models.fno import FNO
from torch_geometric_flare.nn.models.gnot import GNOT
from torch_geometric_flare.nn.models.lno import LNO
from torch_geometric_flare.nn.models.mesh_graph_net import MeshGraphNet
from torch_geometric_flare.nn.models.perceiver_io import PerceiverIO
from torch_geometric_flare.nn.models.transformers import (
    Linformer,
    Nystromformer,
    Reformer,
    Transformer,
)
from torch_geometric_flare.nn.models.transolver import Transolver

__all__ = [
    "DeepONet",
    "FLARE",
    "FLAREHybrid",
    "FLAREPP",
    "FLAREQuery",
    "FNO",
    "GNOT",
    "LNO",
    "Linformer",
    "MeshGraphNet",
    "Nystromformer",
    "PerceiverIO",
    "Reformer",
    "Transformer",
    "Transolver",
]
