"""Plots of tensors as Matplotlib figures."""

from torch_geometric_flare._extras import needs_extra

with needs_extra("viz", __name__):
    import matplotlib  # noqa: F401
    import pyvista  # noqa: F401

from torch_geometric_flare.visualization.comparison import plot_comparison
from torch_geometric_flare.visualization.curves import plot_training_curves
from torch_geometric_flare.visualization.deformed import (
    ABOVE_VIEW,
    plot_deformed_comparison,
)
from torch_geometric_flare.visualization.mesh import plot_mesh
from torch_geometric_flare.visualization.page import mesh_page
from torch_geometric_flare.visualization.plane import plot_plane_comparison
from torch_geometric_flare.visualization.sensitivity import plot_sensitivity
from torch_geometric_flare.visualization.spectra import plot_spectra
from torch_geometric_flare.visualization.surface import (
    FRONT_VIEW,
    REAR_VIEW,
    SIDE_VIEW,
    plot_surface_comparison,
)

__all__ = [
    "ABOVE_VIEW",
    "FRONT_VIEW",
    "REAR_VIEW",
    "SIDE_VIEW",
    "mesh_page",
    "plot_comparison",
    "plot_deformed_comparison",
    "plot_mesh",
    "plot_plane_comparison",
    "plot_sensitivity",
    "plot_spectra",
    "plot_surface_comparison",
    "plot_training_curves",
]
