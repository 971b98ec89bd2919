"""Tensors in, Matplotlib figures and VTK files out."""

from torch_geometric_flare.visualization.curves import plot_training_curves
from torch_geometric_flare.visualization.surface import (
    FRONT_VIEW,
    REAR_VIEW,
    SIDE_VIEW,
    plot_surface_comparison,
)

__all__ = [
    "FRONT_VIEW",
    "REAR_VIEW",
    "SIDE_VIEW",
    "plot_surface_comparison",
    "plot_training_curves",
]
