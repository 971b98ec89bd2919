"""Simulated data: solvers of the benchmarks' physics, without torch."""

from torch_geometric_flare.simulation.notchback import Notchback, NotchbackFlow
from torch_geometric_flare.simulation.notchback_body import SHAPE_RANGES, NotchbackShape
from torch_geometric_flare.simulation.source_panels import SourcePanelFlow, SourcePanels

__all__ = [
    "SHAPE_RANGES",
    "Notchback",
    "NotchbackFlow",
    "NotchbackShape",
    "SourcePanelFlow",
    "SourcePanels",
]
