"""Normalisers and model inputs."""

from torch_geometric_flare.transforms.make_input import make_input
from torch_geometric_flare.transforms.normalizer import Normalizer

__all__ = ["Normalizer", "make_input"]
