"""What a trained network does: the spectra of its operators."""

from torch_geometric_flare.analysis.spectrum import (
    Spectrum,
    effective_rank,
    spectra,
    spectrum,
    stable_rank,
)

__all__ = ["Spectrum", "effective_rank", "spectra", "spectrum", "stable_rank"]
