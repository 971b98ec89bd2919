"""Model inputs, and normalisers fitted on the training split."""

from torch_geometric_flare.transforms.model_input import make_input
from torch_geometric_flare.transforms.normalizer import Normalizer

__all__ = ["Normalizer", "make_input"]
