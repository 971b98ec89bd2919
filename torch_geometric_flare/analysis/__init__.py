"""Analysis of trained networks: spectra of their operators."""

from torch_geometric_flare.analysis.ranks import (
    effective_rank,
    share_rank,
    stable_rank,
)
from torch_geometric_flare.analysis.spectrum import Spectrum, spectra, spectrum

__all__ = [
    "Spectrum",
    "effective_rank",
    "share_rank",
    "spectra",
    "spectrum",
    "stable_rank",
]
