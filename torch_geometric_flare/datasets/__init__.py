"""Data sets: official formats, simulated stand-ins, and the copy-a-sample baseline."""

from torch_geometric_flare.datasets.airfoil import Airfoil
from torch_geometric_flare.datasets.airfrans import AirfRANS
from torch_geometric_flare.datasets.converted import ConvertedFiles
from torch_geometric_flare.datasets.darcy import Darcy
from torch_geometric_flare.datasets.drivaerml import DrivAerML
from torch_geometric_flare.datasets.drivaerml_raw import DrivAerMLRaw
from torch_geometric_flare.datasets.elasticity import Elasticity
from torch_geometric_flare.datasets.file_per_sample import FilePerSample
from torch_geometric_flare.datasets.lpbf import LPBF
from torch_geometric_flare.datasets.mean import MeanSample
from torch_geometric_flare.datasets.mesh_data import MeshData
from torch_geometric_flare.datasets.mesh_folder import MeshFolder, SurrogateArguments
from torch_geometric_flare.datasets.nearest import NearestSample
from torch_geometric_flare.datasets.pipe import Pipe
from torch_geometric_flare.datasets.shapenet_car import ShapeNetCar
from torch_geometric_flare.datasets.simulated import SimulatedDataset
from torch_geometric_flare.datasets.simulator import Simulator, sample_rng
from torch_geometric_flare.datasets.stacked_arrays import StackedArrays
from torch_geometric_flare.datasets.verified import VerifiedDataset

__all__ = [
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
