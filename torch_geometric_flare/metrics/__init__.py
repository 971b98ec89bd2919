"""Errors of fields, and force and moment coefficients of surfaces."""

from torch_geometric_flare.metrics.area_weighted import area_weighted_relative_l2
from torch_geometric_flare.metrics.derivatives import relative_l2_of_derivatives
from torch_geometric_flare.metrics.forces import (
    ForceCoefficients,
    MomentCoefficients,
    force_coefficients,
    moment_coefficients,
)
from torch_geometric_flare.metrics.legacy_lpbf import legacy_lpbf_error
from torch_geometric_flare.metrics.mesh_forces import mesh_forces
from torch_geometric_flare.metrics.per_channel import relative_l2_per_channel
from torch_geometric_flare.metrics.r2_score import r2_score
from torch_geometric_flare.metrics.relative_l2 import (
    relative_l2,
    relative_l2_per_field,
    zero_graphs,
)
from torch_geometric_flare.metrics.streamed import RelativeL2

__all__ = [
    "ForceCoefficients",
    "MomentCoefficients",
    "RelativeL2",
    "area_weighted_relative_l2",
    "force_coefficients",
    "legacy_lpbf_error",
    "mesh_forces",
    "moment_coefficients",
    "r2_score",
    "relative_l2",
    "relative_l2_of_derivatives",
    "relative_l2_per_channel",
    "relative_l2_per_field",
    "zero_graphs",
]
