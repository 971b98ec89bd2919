"""Data sets: official formats, simulated stand-ins, and the copy-a-sample baseline."""

from torch_geometric_flare.datasets.drivaerml import DrivAerML
from torch_geometric_flare.datasets.nearest import (
    NearestSample,
    carry_field,
    nearest_sample,
)
from torch_geometric_flare.datasets.simulated import SimulatedDataset
from torch_geometric_flare.datasets.simulated_files import Simulator, sample_rng

__all__ = [
    "DrivAerML",
    "NearestSample",
    "SimulatedDataset",
    "Simulator",
    "carry_field",
    "nearest_sample",
    "sample_rng",
]
