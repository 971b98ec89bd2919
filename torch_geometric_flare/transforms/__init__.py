"""Model inputs, normalizers, mesh edges and subsets of points."""

from torch_geometric_flare.transforms.area_weighted_points import AreaWeightedPoints
from torch_geometric_flare.transforms.cells_to_edge import CellsToEdge
from torch_geometric_flare.transforms.features import (
    channel_bounds,
    feature_key,
    get_feature,
)
from torch_geometric_flare.transforms.fixed_query_points import FixedQueryPoints
from torch_geometric_flare.transforms.fourier import fourier_features
from torch_geometric_flare.transforms.grid_stride import GridStride
from torch_geometric_flare.transforms.grid_to_edge import GridToEdge
from torch_geometric_flare.transforms.hide_feature import HideFeature
from torch_geometric_flare.transforms.knn_edges import KNNEdges
from torch_geometric_flare.transforms.mesh_edges import MeshEdges
from torch_geometric_flare.transforms.model_input import make_input
from torch_geometric_flare.transforms.normalizer import Normalizer
from torch_geometric_flare.transforms.quadrature import quadrature_weights
from torch_geometric_flare.transforms.radius_edges import RadiusEdges
from torch_geometric_flare.transforms.random_mirror import RandomMirror
from torch_geometric_flare.transforms.surface_distance import SurfaceDistance
from torch_geometric_flare.transforms.time_window import TimeWindow
from torch_geometric_flare.transforms.wall_features import WallFeatures

__all__ = [
    "AreaWeightedPoints",
    "CellsToEdge",
    "FixedQueryPoints",
    "GridStride",
    "RandomMirror",
    "GridToEdge",
    "HideFeature",
    "KNNEdges",
    "MeshEdges",
    "Normalizer",
    "RadiusEdges",
    "SurfaceDistance",
    "TimeWindow",
    "WallFeatures",
    "channel_bounds",
    "fourier_features",
    "feature_key",
    "get_feature",
    "make_input",
    "quadrature_weights",
]
