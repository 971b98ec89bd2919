"""FLARE attention and physics surrogates for PyTorch Geometric."""

import os
import sys
import warnings

if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
    # Threads that wait let other programs run; OpenMP reads it when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

with warnings.catch_warnings():
    # PyTorch Geometric scripts two classes when it is first imported.
    # The category differs between releases of torch.
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")
    import torch_geometric  # noqa: F401

from torch_geometric_flare.functional import (
    PointBatch,
    SoftmaxState,
    flare_attention,
    flare_decode,
    flare_encode,
)
from torch_geometric_flare.interop import from_reference
from torch_geometric_flare.nn import (
    FLARE,
    FLAREPP,
    GNOT,
    LNO,
    FLAREConv,
    FLAREPPConv,
    PerceiverIO,
    ResidualMLP,
    Transformer,
    Transolver,
)

__version__ = "0.1.0"

__all__ = [
    "FLARE",
    "FLAREConv",
    "FLAREPP",
    "FLAREPPConv",
    "GNOT",
    "LNO",
    "PerceiverIO",
    "PointBatch",
    "ResidualMLP",
    "SoftmaxState",
    "Transformer",
    "Transolver",
    "flare_attention",
    "flare_decode",
    "flare_encode",
    "from_reference",
]
