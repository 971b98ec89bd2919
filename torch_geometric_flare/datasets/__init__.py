"""Data sets: official formats, simulated substitutes, and baselines."""

from torch_geometric_flare.datasets.ahmedml import AhmedML
from torch_geometric_flare.datasets.airfoil import Airfoil
from torch_geometric_flare.datasets.airfrans import AirfRANS
from torch_geometric_flare.datasets.baselines import MeanSample, NearestSample
from torch_geometric_flare.datasets.darcy import Darcy
from torch_geometric_flare.datasets.drivaerml import DrivAerML
from torch_geometric_flare.datasets.drivaerml_raw import DrivAerMLRaw
from torch_geometric_flare.datasets.elasticity import Elasticity
from torch_geometric_flare.datasets.lpbf import LPBF
from torch_geometric_flare.datasets.mesh_folder import MeshFolder
from torch_geometric_flare.datasets.pipe import Pipe
from torch_geometric_flare.datasets.shapenet_car import ShapeNetCar
from torch_geometric_flare.datasets.simulated import SimulatedDataset
from torch_geometric_flare.datasets.simulator import Simulator, sample_rng
from torch_geometric_flare.datasets.sources import (
    ConvertedFiles,
    FilePerSample,
    StackedArrays,
)
from torch_geometric_flare.datasets.stored import MeshData
from torch_geometric_flare.datasets.surrogate_arguments import SurrogateArguments
from torch_geometric_flare.datasets.verified import VerifiedDataset

__all__ = [
    "AhmedML",
    "AirfRANS",
    "Airfoil",
    "ConvertedFiles",
    "Darcy",
    "DrivAerML",
    "DrivAerMLRaw",
    "Elasticity",
    "FilePerSample",
    "LPBF",
    "MeanSample",
    "MeshData",
    "MeshFolder",
    "NearestSample",
    "Pipe",
    "ShapeNetCar",
    "SimulatedDataset",
    "Simulator",
    "StackedArrays",
    "SurrogateArguments",
    "VerifiedDataset",
    "sample_rng",
]
