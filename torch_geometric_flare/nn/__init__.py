"""Modules: the FLARE operator, its parts, and whole surrogates."""

from torch_geometric_flare.nn.attention import PhysicsAttention
from torch_geometric_flare.nn.backbone import Backbone
from torch_geometric_flare.nn.block import ResidualBlock
from torch_geometric_flare.nn.conv import FLAREConv, LocalConv, MeshGraphConv
from torch_geometric_flare.nn.dense import ResidualMLP
from torch_geometric_flare.nn.mixer import PointMixer
from torch_geometric_flare.nn.models import FLARE, FLAREHybrid, MeshGraphNet
from torch_geometric_flare.nn.predict_stream import predict_stream
from torch_geometric_flare.nn.readout import LatentReadout

__all__ = [
    "Backbone",
    "FLARE",
    "FLAREConv",
    "FLAREHybrid",
    "LatentReadout",
    "LocalConv",
    "MeshGraphConv",
    "MeshGraphNet",
    "PhysicsAttention",
    "PointMixer",
    "ResidualBlock",
    "ResidualMLP",
    "predict_stream",
]
