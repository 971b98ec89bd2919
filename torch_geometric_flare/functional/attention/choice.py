"""Selection of the attention backend.

The backend of a graph depends only on that graph, not on the rest of the batch.
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
"""All backends in order of preference: the first that supports a call computes it."""

_LOGGER = logging.getLogger(__name__)

# Backends forced by nested `attention_backend` contexts; the last one is used.
_FORCED: list[Backend] = []


def choose_backend(call: AttentionCall) -> Backend:
    """Return the backend that computes a call.

    Logs it at level DEBUG, with the reasons why preceding backends were skipped.

    Args:
        call: The call.

    Raises:
        ValueError: If a forced backend does not support the call.
    """
    reasons: list[str] = []
    for backend in _FORCED[-1:] or BACKENDS:
        if getattr(backend, call.verb) is None:
            reason: str | None = f"it does not implement {call.verb}"
        else:
            reason = backend.why_unsupported(call)
        if reason is None:
            # torch.compile cannot trace logging.
            if not torch.compiler.is_compiling() and _LOGGER.isEnabledFor(
                logging.DEBUG
            ):
                message = "; ".join([f"{call.verb}: using {backend.name}", *reasons])
                _LOGGER.debug("%s", message)
            return backend
        reasons.append(f"not {backend.name}: {reason}")
    raise ValueError(
        f"attention_backend is {_FORCED[-1].name!r}, but {reason} (while computing "
        f"{call.verb}): do not force a backend, or force another one"
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
    """Select a backend and compute a verb with it. Arguments are not validated.

    Args:
        verb: The operation to compute.
        q: Latent queries, shared by all graphs or one set per graph; for
            `"self_attention"`, queries of the points.
        k: Keys of the points.
        v: Values of the points; for `"decode"`, of the latents.
        scale: Scaling factor of the scores.
        layout: Layout of the rows, with their weights; `None` for a dense batch.
        mask: True for real points of a dense batch.
        weight: Weights of the points of a dense batch, $[B, N]$.

    Returns:
        Values at the points; for `"encode"`, the state of each graph.
    """
    call = AttentionCall.of(verb, q, k, v, scale, layout, mask, weight)
    return getattr(choose_backend(call), verb)(call, q, k, v)


@contextmanager
def attention_backend(name: str) -> Iterator[None]:
    """Force an attention backend, as `torch.nn.attention.sdpa_kernel` does.

    Intended for tests, benchmarks and bug reports: by default, the fastest backend that
    supports a call computes it. The setting applies to all threads. Chunks of points
    are recomputed in backward, so with chunks the context must also enclose backward.

    Args:
        name: One of

            - `"shared_scores"`: kernels compiled for this CPU that compute each score
              once for both softmaxes; float32 and float64
            - `"varlen"`: the fused CUDA kernel for ragged sequences, half precision
            - `"split_keys"`: `"sdpa"` on CUDA, with the keys of large graphs split
            - `"sdpa"`: two calls of `torch.nn.functional.scaled_dot_product_attention`
            - `"reference"`: explicit scores, memory $O(NM)$, on any device

    Raises:
        ValueError: If the backend does not exist. Attention inside the context raises
            it, with the reason, if the backend does not support the call.

    Examples:
        >>> conv, x = FLAREConv(16, heads=4), torch.randn(100, 16)
        >>> with attention_backend("reference"):
        ...     y = conv(x)
        >>> torch.allclose(y, conv(x), atol=1e-6)
        True
    """
    backends = {backend.name: backend for backend in BACKENDS}
    if name not in backends:
        raise ValueError(f"name is {name!r}, expected one of {', '.join(backends)}")
    _FORCED.append(backends[name])
    try:
        yield
    finally:
        _FORCED.pop()
