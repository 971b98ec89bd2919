"""Mixers other than FLARE, for comparison: called alike, on `x` and `batch`."""

from torch_geometric_flare.nn.attention.grid_physics_attention import (
    GridPhysicsAttention,
)
from torch_geometric_flare.nn.attention.linear_attention import LinearAttention
from torch_geometric_flare.nn.attention.physics_attention import PhysicsAttention
from torch_geometric_flare.nn.attention.softmax_attention import SoftmaxAttention

__all__ = [
    "GridPhysicsAttention",
    "LinearAttention",
    "PhysicsAttention",
    "SoftmaxAttention",
]
