"""Tensors in, Matplotlib figures and VTK files out."""

from torch_geometric_flare.visualization.curves import plot_training_curves
from torch_geometric_flare.visualization.mesh_files import MESH_SUFFIXES, read_mesh
from torch_geometric_flare.visualization.surface import (
    FRONT_VIEW,
    REAR_VIEW,
    SIDE_VIEW,
    plot_surface_comparison,
)
from torch_geometric_flare.visualization.vtk_export import (
    save_dataset,
    write_point_cloud,
)

__all__ = [
    "FRONT_VIEW",
    "MESH_SUFFIXES",
    "REAR_VIEW",
    "SIDE_VIEW",
    "plot_surface_comparison",
    "plot_training_curves",
    "read_mesh",
    "save_dataset",
    "write_point_cloud",
]
