"""Trained models with their normalizers: predict, save and load with torch alone."""

from torch_geometric_flare.nn.wrappers import forward_parameters, unwrap
from torch_geometric_flare.surrogates.arguments import (
    edge_transform,
    forward_arguments,
)
from torch_geometric_flare.surrogates.calibration import Calibration
from torch_geometric_flare.surrogates.checkpoint import load_surrogate, save_surrogate
from torch_geometric_flare.surrogates.description import describe_model
from torch_geometric_flare.surrogates.generative_surrogate import GenerativeSurrogate
from torch_geometric_flare.surrogates.guard import Guard, Verdict
from torch_geometric_flare.surrogates.query_surrogate import (
    QueryPoints,
    QuerySurrogate,
)
from torch_geometric_flare.surrogates.rollout import rollout
from torch_geometric_flare.surrogates.sensitivity import Flow, Sensitivity
from torch_geometric_flare.surrogates.surface_geometry import SurfaceGeometry
from torch_geometric_flare.surrogates.surrogate import Surrogate

__all__ = [
    "Calibration",
    "Flow",
    "GenerativeSurrogate",
    "Guard",
    "QueryPoints",
    "QuerySurrogate",
    "Sensitivity",
    "SurfaceGeometry",
    "Surrogate",
    "Verdict",
    "describe_model",
    "edge_transform",
    "forward_arguments",
    "forward_parameters",
    "load_surrogate",
    "rollout",
    "save_surrogate",
    "unwrap",
]
