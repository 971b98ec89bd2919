"""Errors of fields and forces on surfaces."""

from torch_geometric_flare.metrics.forces import ForceCoefficients, force_coefficients
from torch_geometric_flare.metrics.legacy_lpbf import legacy_lpbf_error
from torch_geometric_flare.metrics.relative_l2 import (
    relative_l2,
    relative_l2_per_field,
)

__all__ = [
    "ForceCoefficients",
    "force_coefficients",
    "legacy_lpbf_error",
    "relative_l2",
    "relative_l2_per_field",
]
