"""Simulated data: solvers for the physics of the benchmarks, without PyTorch."""

from torch_geometric_flare._extras import needs_extra

with needs_extra("simulation", __name__):
    import scipy  # noqa: F401
    import skfem  # noqa: F401

from torch_geometric_flare._not_converged import NotConverged
from torch_geometric_flare.simulation.advection_diffusion import AdvectionDiffusion
from torch_geometric_flare.simulation.airfoil import AirfoilFlow, AirfoilSolution
from torch_geometric_flare.simulation.airfoil_grid import AirfoilShape
from torch_geometric_flare.simulation.darcy import DarcyFlow
from torch_geometric_flare.simulation.elasticity import (
    Hyperelastic,
    HyperelasticSolution,
)
from torch_geometric_flare.simulation.lpbf import PrintedPart, PrintedState
from torch_geometric_flare.simulation.notchback import Notchback, NotchbackFlow
from torch_geometric_flare.simulation.notchback_body import SHAPE_RANGES, NotchbackShape
from torch_geometric_flare.simulation.notchback_volume import NotchbackVolume
from torch_geometric_flare.simulation.pipe import PipeFlow, PipeSolution
from torch_geometric_flare.simulation.printed_shape import PrintedShape
from torch_geometric_flare.simulation.source_panels import SourcePanelFlow, SourcePanels

__all__ = [
    "AdvectionDiffusion",
    "AirfoilFlow",
    "AirfoilShape",
    "AirfoilSolution",
    "DarcyFlow",
    "Hyperelastic",
    "HyperelasticSolution",
    "NotConverged",
    "Notchback",
    "NotchbackFlow",
    "NotchbackShape",
    "NotchbackVolume",
    "PipeFlow",
    "PipeSolution",
    "PrintedPart",
    "PrintedShape",
    "PrintedState",
    "SHAPE_RANGES",
    "SourcePanelFlow",
    "SourcePanels",
]
