"""Modules: the FLARE operator, its parts, and whole surrogates."""

from torch_geometric_flare.nn.attention import GridPhysicsAttention, PhysicsAttention
from torch_geometric_flare.nn.backbone import Backbone
from torch_geometric_flare.nn.block import ResidualBlock
from torch_geometric_flare.nn.conv import FLAREConv
from torch_geometric_flare.nn.dense import ResidualMLP
from torch_geometric_flare.nn.mixer import PointMixer
from torch_geometric_flare.nn.models import FLARE, LNO, PerceiverIO, Transolver
from torch_geometric_flare.nn.predict_stream import predict_stream

__all__ = [
    "Backbone",
    "FLARE",
    "FLAREConv",
    "GridPhysicsAttention",
    "LNO",
    "PerceiverIO",
    "PhysicsAttention",
    "PointMixer",
    "ResidualBlock",
    "ResidualMLP",
    "Transolver",
    "predict_stream",
]
