"""Mesh files: reading, writing, and what the shape of a mesh tells."""

from torch_geometric_flare._extras import needs_extra

with needs_extra("viz", __name__):
    import pyvista  # noqa: F401
    import vtk  # noqa: F401

from torch_geometric_flare.mesh_io.extent import check_extent
from torch_geometric_flare.mesh_io.features import find_features
from torch_geometric_flare.mesh_io.geometry import is_surface, mesh_areas, mesh_normals
from torch_geometric_flare.mesh_io.polygons import polygon_vectors
from torch_geometric_flare.mesh_io.read import (
    FURTHER_SUFFIXES,
    MESH_SUFFIXES,
    as_mesh,
    read_mesh,
)
from torch_geometric_flare.mesh_io.write import add_notes, save_dataset, write_points

__all__ = [
    "FURTHER_SUFFIXES",
    "MESH_SUFFIXES",
    "add_notes",
    "as_mesh",
    "check_extent",
    "find_features",
    "is_surface",
    "mesh_areas",
    "mesh_normals",
    "polygon_vectors",
    "read_mesh",
    "save_dataset",
    "write_points",
]
