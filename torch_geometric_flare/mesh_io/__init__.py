"""Read and write mesh files, and compute geometric quantities of meshes."""

from torch_geometric_flare._extras import needs_extra

with needs_extra("viz", __name__):
    import pyvista  # noqa: F401
    import vtk  # noqa: F401

from torch_geometric_flare._files import MESH_SUFFIXES
from torch_geometric_flare.mesh_io.cases import CASES_TABLE, add_case, read_cases
from torch_geometric_flare.mesh_io.distance import distance_features, surface_distance
from torch_geometric_flare.mesh_io.extent import check_extent
from torch_geometric_flare.mesh_io.features import (
    check_constants,
    find_conditions,
    find_features,
)
from torch_geometric_flare.mesh_io.geometry import (
    is_surface,
    mesh_areas,
    mesh_normals,
    oriented_faces,
)
from torch_geometric_flare.mesh_io.inside import points_inside
from torch_geometric_flare.mesh_io.location import check_location, find_location
from torch_geometric_flare.mesh_io.polygons import polygon_fans, polygon_vectors
from torch_geometric_flare.mesh_io.read import FURTHER_SUFFIXES, as_mesh, read_mesh
from torch_geometric_flare.mesh_io.site import QuerySite
from torch_geometric_flare.mesh_io.smoothing import sobolev_smooth
from torch_geometric_flare.mesh_io.visible import visible_part
from torch_geometric_flare.mesh_io.weights import mesh_weights
from torch_geometric_flare.mesh_io.write import add_notes, save_dataset, write_points

__all__ = [
    "CASES_TABLE",
    "FURTHER_SUFFIXES",
    "MESH_SUFFIXES",
    "QuerySite",
    "add_case",
    "add_notes",
    "as_mesh",
    "check_constants",
    "check_extent",
    "check_location",
    "distance_features",
    "find_conditions",
    "find_features",
    "find_location",
    "is_surface",
    "mesh_areas",
    "mesh_normals",
    "mesh_weights",
    "oriented_faces",
    "points_inside",
    "polygon_fans",
    "polygon_vectors",
    "read_cases",
    "read_mesh",
    "save_dataset",
    "sobolev_smooth",
    "surface_distance",
    "visible_part",
    "write_points",
]
