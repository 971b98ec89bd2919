"""Whole surrogates, one architecture a file."""

from torch_geometric_flare.nn.models.flare import FLARE
from torch_geometric_flare.nn.models.flarepp import FLAREPP
from torch_geometric_flare.nn.models.gnot import GNOT
from torch_geometric_flare.nn.models.transformer import Transformer

__all__ = ["FLARE", "FLAREPP", "GNOT", "Transformer"]
