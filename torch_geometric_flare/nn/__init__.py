"""Modules: the FLARE operator, its building blocks, and surrogate networks."""

from torch_geometric_flare.nn.attention import (
    GridPhysicsAttention,
    LinearAttention,
    LinformerAttention,
    LSHAttention,
    NystromAttention,
    PhysicsAttention,
    SoftmaxAttention,
)
from torch_geometric_flare.nn.backbone import Backbone, MixerBackbone
from torch_geometric_flare.nn.block import ResidualBlock
from torch_geometric_flare.nn.conv import (
    CausalFLAREConv,
    FLAREConv,
    FLAREPPConv,
    GPSFLAREConv,
    LocalConv,
    MeshGraphConv,
)
from torch_geometric_flare.nn.dense import ConditionedNorm, ResidualMLP
from torch_geometric_flare.nn.geometry_state import GeometryState
from torch_geometric_flare.nn.growth import grow_latents
from torch_geometric_flare.nn.mixer import PointMixer
from torch_geometric_flare.nn.models import (
    FLARE,
    FLAREPP,
    FNO,
    GNOT,
    LNO,
    DeepONet,
    FLAREHybrid,
    FLAREQuery,
    Linformer,
    MeshGraphNet,
    Nystromformer,
    PerceiverIO,
    Reformer,
    Transformer,
    Transolver,
)
from torch_geometric_flare.nn.pooled_states import pooled_states
from torch_geometric_flare.nn.readout import LatentReadout
from torch_geometric_flare.nn.streaming.predict_stream import predict_stream
from torch_geometric_flare.nn.streaming.query_stream import (
    decode_stream,
    encode_stream,
)

__all__ = [
    "Backbone",
    "CausalFLAREConv",
    "ConditionedNorm",
    "DeepONet",
    "FLARE",
    "FLAREConv",
    "FLAREHybrid",
    "FLAREPP",
    "FLAREPPConv",
    "FLAREQuery",
    "FNO",
    "GNOT",
    "GPSFLAREConv",
    "GeometryState",
    "GridPhysicsAttention",
    "LNO",
    "LSHAttention",
    "LatentReadout",
    "LinearAttention",
    "LinformerAttention",
    "Linformer",
    "LocalConv",
    "MeshGraphConv",
    "MeshGraphNet",
    "MixerBackbone",
    "NystromAttention",
    "Nystromformer",
    "PerceiverIO",
    "PhysicsAttention",
    "PointMixer",
    "Reformer",
    "ResidualBlock",
    "ResidualMLP",
    "SoftmaxAttention",
    "Transformer",
    "Transolver",
    "decode_stream",
    "encode_stream",
    "grow_latents",
    "pooled_states",
    "predict_stream",
]
