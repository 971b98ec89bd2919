"""Normalisers, fitted on the training split and stored with the model."""

from torch_geometric_flare.transforms.normalizer import Normalizer

__all__ = ["Normalizer"]
