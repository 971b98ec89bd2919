"""Whole surrogates, one architecture a file."""

from torch_geometric_flare.nn.models.flare import FLARE
from torch_geometric_flare.nn.models.lno import LNO
from torch_geometric_flare.nn.models.perceiver_io import PerceiverIO
from torch_geometric_flare.nn.models.transolver import Transolver

__all__ = ["FLARE", "LNO", "PerceiverIO", "Transolver"]
