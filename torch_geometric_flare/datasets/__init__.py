"""Data sets: official formats, simulated stand-ins, and the copy-a-sample baseline."""

from torch_geometric_flare.datasets.airfoil import Airfoil
from torch_geometric_flare.datasets.darcy import Darcy
from torch_geometric_flare.datasets.drivaerml import DrivAerML
from torch_geometric_flare.datasets.elasticity import Elasticity
from torch_geometric_flare.datasets.file_per_sample import FilePerSample
from torch_geometric_flare.datasets.mean import MeanSample
from torch_geometric_flare.datasets.mesh_data import MeshData
from torch_geometric_flare.datasets.nearest import NearestSample
from torch_geometric_flare.datasets.pipe import Pipe
from torch_geometric_flare.datasets.simulated import SimulatedDataset
from torch_geometric_flare.datasets.simulator import Simulator, sample_rng
from torch_geometric_flare.datasets.stacked_arrays import StackedArrays
from torch_geometric_flare.datasets.verified import VerifiedDataset

__all__ = [
    "Airfoil",
    "Darcy",
    "DrivAerML",
    "Elasticity",
    "FilePerSample",
    "MeanSample",
    "MeshData",
    "NearestSample",
    "Pipe",
    "SimulatedDataset",
    "Simulator",
    "StackedArrays",
    "VerifiedDataset",
    "sample_rng",
]
