"""The choice of a backend.

The backend of a graph depends on that graph alone, never on its batch-mates.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from torch_geometric_flare.functional.attention.backend import (
    AttentionCall,
    Backend,
    Verb,
)
from torch_geometric_flare.functional.attention.reference import REFERENCE
from torch_geometric_flare.functional.attention.sdpa import SDPA
from torch_geometric_flare.functional.attention.shared_scores import SHARED_SCORES
from torch_geometric_flare.functional.attention.split_keys import SPLIT_KEYS
from torch_geometric_flare.functional.attention.varlen import VARLEN
from torch_geometric_flare.functional.point_batch import PointBatch

BACKENDS: tuple[Backend, ...] = (SHARED_SCORES, VARLEN, SPLIT_KEYS, SDPA, REFERENCE)
"""All backends, in order of preference: the first that supports a call computes it."""

_LOGGER = logging.getLogger(__name__)

# Backends forced by nested `attention_backend`; the last one counts.
_FORCED: list[Backend] = []


def choose_backend(call: AttentionCall) -> Backend:
    """Return the backend that computes a call.

    Logs it at level DEBUG, with the reasons against those before it.

    Args:
        call: The call.

    Raises:
        ValueError: If a forced backend does not support the call.
    """
    reasons: list[str] = []
    for backend in _FORCED[-1:] or BACKENDS:
        if getattr(backend, call.verb) is None:
            reason: str | None = f"it has no {call.verb}"
        else:
            reason = backend.why_unsupported(call)
        if reason is None:
            # torch.compile cannot trace a logger.
            if not torch.compiler.is_compiling() and _LOGGER.isEnabledFor(
                logging.DEBUG
            ):
                message = "; ".join([f"{call.verb}: using {backend.name}", *reasons])
                _LOGGER.debug("%s", message)
            return backend
        reasons.append(f"not {backend.name}: {reason}")
    raise ValueError(
        f"attention_backend is {_FORCED[-1].name!r}, but {reason} (while computing "
        f"{call.verb}): leave the choice open, or force another backend"
    )


def compute(
    verb: Verb,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    layout: PointBatch | None = None,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Any:
    """Choose a backend and compute a verb with it. Arguments are not checked.

    Args:
        verb: What to compute.
        q: Latent queries, shared by all graphs or one set for each; for
            `"self_attention"`, queries of the points.
        k: Keys of the points.
        v: Values of the points; for `"decode"`, of the latents.
        scale: Factor on the scores.
        layout: Layout of the rows, with their weights; `None` for a dense batch.
        mask: True where a point of a dense batch is real.
        weight: Weights of the points of a dense batch, $[B, N]$.

    Returns:
        Values at the points; for `"encode"`, the state of each graph.
    """
    call = AttentionCall.of(verb, q, k, v, scale, layout, mask, weight)
    return getattr(choose_backend(call), verb)(call, q, k, v)


@contextmanager
def attention_backend(name: str) -> Iterator[None]:
    """Force one backend of attention, as `torch.nn.attention.sdpa_kernel` does.

    For tests, benchmarks and bug reports: by default the fastest backend that supports
    a call computes it. The setting applies to all threads. Chunks of points are
    recomputed in backward, so there the context must enclose backward too.

    Args:
        name: One of

            - `"shared_scores"`: kernels compiled for this CPU that compute each score
              once for both softmaxes; float32 and float64
            - `"varlen"`: the fused CUDA kernel for ragged sequences, half precision
            - `"split_keys"`: `"sdpa"` on CUDA, with the keys of large graphs in parts
            - `"sdpa"`: `torch.nn.functional.scaled_dot_product_attention`, twice
            - `"reference"`: explicit scores, memory $O(NM)$, on any device

    Raises:
        ValueError: If there is no such backend; and from attention inside the context,
            with the reason, if the backend does not support the call.

    Examples:
        >>> conv, x = FLAREConv(16, heads=4), torch.randn(100, 16)
        >>> with attention_backend("reference"):
        ...     y = conv(x)
        >>> torch.allclose(y, conv(x), atol=1e-6)
        True
    """
    named = {backend.name: backend for backend in BACKENDS}
    if name not in named:
        raise ValueError(f"name is {name!r}, expected one of {', '.join(named)}")
    _FORCED.append(named[name])
    try:
        yield
    finally:
        _FORCED.pop()
