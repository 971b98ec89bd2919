"""The backends that tests run on, so that a new one is tested without being named."""

from contextlib import suppress

import torch

from torch_geometric_flare import PointBatch
from torch_geometric_flare.functional import attention_backend
from torch_geometric_flare.functional.attention.backend import AttentionCall
from torch_geometric_flare.functional.attention.choice import BACKENDS, choose_backend


def supporting(verb, mask=None, weighted=False):
    """Return names of the backends that support a verb in float64 on this CPU."""
    k = torch.zeros(5, 2, 4, dtype=torch.float64)
    q = k if verb == "self_attention" else torch.zeros(1, 2, 3, 4).double()
    v = torch.zeros(2, 2, 3, 4).double() if verb == "decode" else k
    layout = PointBatch.from_sizes((3, 2)) if mask is None else None
    if weighted:
        layout = layout.weighted(torch.ones(5, dtype=torch.float64))
    call = AttentionCall.of(verb, q, k, v, 1.0, layout, mask)
    names = []
    for backend in BACKENDS:
        with suppress(ValueError), attention_backend(backend.name):
            names.append(choose_backend(call).name)
    return names
