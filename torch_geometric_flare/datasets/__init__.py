"""Data sets: official formats, simulated stand-ins, and the copy-a-sample baseline."""

from torch_geometric_flare.datasets.airfrans import AirfRANS
from torch_geometric_flare.datasets.converted import ConvertedFiles
from torch_geometric_flare.datasets.drivaerml import DrivAerML
from torch_geometric_flare.datasets.drivaerml_raw import DrivAerMLRaw
from torch_geometric_flare.datasets.file_per_sample import FilePerSample
from torch_geometric_flare.datasets.lpbf import LPBF
from torch_geometric_flare.datasets.nearest import NearestSample
from torch_geometric_flare.datasets.shapenet_car import ShapeNetCar
from torch_geometric_flare.datasets.simulated import SimulatedDataset
from torch_geometric_flare.datasets.simulator import Simulator, sample_rng
from torch_geometric_flare.datasets.stacked_arrays import StackedArrays
from torch_geometric_flare.datasets.verified import VerifiedDataset

__all__ = [
    "LPBF",
    "AirfRANS",
    "ConvertedFiles",
    "DrivAerML",
    "DrivAerMLRaw",
    "FilePerSample",
    "NearestSample",
    "ShapeNetCar",
    "SimulatedDataset",
    "Simulator",
    "StackedArrays",
    "VerifiedDataset",
    "sample_rng",
]
