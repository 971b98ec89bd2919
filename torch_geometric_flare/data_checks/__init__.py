"""Check meshes and fields, individually and against each other."""

from torch_geometric_flare._extras import needs_extra

with needs_extra("viz", __name__):
    import pyvista  # noqa: F401
with needs_extra("data", __name__):
    import scipy  # noqa: F401

from torch_geometric_flare.data_checks.check import CHECKS, check_meshes
from torch_geometric_flare.data_checks.findings import (
    SEVERITIES,
    CheckReport,
    FieldStatistics,
    Finding,
)
from torch_geometric_flare.data_checks.forces import GivenForces, read_forces

__all__ = [
    "CHECKS",
    "SEVERITIES",
    "CheckReport",
    "FieldStatistics",
    "Finding",
    "GivenForces",
    "check_meshes",
    "read_forces",
]
