"""Attention through latents and among points, with a backend selected per call."""

from torch_geometric_flare.functional.attention.causal import causal_flare_attention
from torch_geometric_flare.functional.attention.choice import attention_backend
from torch_geometric_flare.functional.attention.dense import (
    flare_attention,
    flare_decode,
    flare_encode,
)
from torch_geometric_flare.functional.attention.ragged import (
    ragged_flare_attention,
    ragged_flare_decode,
    ragged_flare_encode,
    ragged_flare_weights,
)
from torch_geometric_flare.functional.attention.reference import (
    reference_causal_flare_attention,
    reference_flare_attention,
    reference_flare_weights,
)
from torch_geometric_flare.functional.attention.self_attention import (
    ragged_self_attention,
)

__all__ = [
    "attention_backend",
    "causal_flare_attention",
    "flare_attention",
    "flare_decode",
    "flare_encode",
    "ragged_flare_attention",
    "ragged_flare_decode",
    "ragged_flare_encode",
    "ragged_flare_weights",
    "ragged_self_attention",
    "reference_causal_flare_attention",
    "reference_flare_attention",
    "reference_flare_weights",
]
