"""Pointwise modules."""

from torch_geometric_flare.nn.dense.conditioned_norm import ConditionedNorm
from torch_geometric_flare.nn.dense.residual_mlp import ResidualMLP

__all__ = ["ConditionedNorm", "ResidualMLP"]
