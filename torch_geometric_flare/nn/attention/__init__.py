"""Mixers other than FLARE for comparison, with the same interface."""

from torch_geometric_flare.nn.attention.linear_attention import LinearAttention
from torch_geometric_flare.nn.attention.linformer_attention import LinformerAttention
from torch_geometric_flare.nn.attention.lsh_attention import LSHAttention
from torch_geometric_flare.nn.attention.nystrom_attention import NystromAttention
from torch_geometric_flare.nn.attention.physics_attention import (
    GridPhysicsAttention,
    PhysicsAttention,
)
from torch_geometric_flare.nn.attention.softmax_attention import SoftmaxAttention

__all__ = [
    "GridPhysicsAttention",
    "LSHAttention",
    "LinearAttention",
    "LinformerAttention",
    "NystromAttention",
    "PhysicsAttention",
    "SoftmaxAttention",
]
