"""How FLARE attention is computed: the one place that chooses."""

import enum
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torch_geometric_flare.functional.autograd import (
    has_cpu_memory,
    is_traced,
    is_transformed,
)
from torch_geometric_flare.functional.point_batch import PointBatch
from torch_geometric_flare.functional.varlen import has_varlen
from torch_geometric_flare.kernels.llvm import is_available

# Wider heads take long to compile, and gain less.
_LARGEST_WIDTH = 64

# With |score| below this, sums over 10^8 points, their reciprocals and products with
# gradients from 1e-15 to 1e15 are normal numbers.
LARGEST_SCORE = {torch.float32: 30.0, torch.float64: 300.0}

# The quick bound must be this much stricter than the exact one, so that it never lets a
# graph pass that alone would not: rounding is of the order of 1e-6.
_MARGIN = 1 - 1e-3


class AttentionBackend(enum.Enum):
    """A way of computing FLARE attention. All of them compute the same.

    Attributes:
        DEFINITION: Explicit scores, memory $O(NM)$, on any device, of any precision.
        SDPA: `torch.nn.functional.scaled_dot_product_attention`, twice.
        VARLEN: The fused kernel of CUDA for ragged sequences, half precision.
        SHARED_SCORES: Kernels compiled for this CPU that compute each score once for
            both softmaxes; float32 and float64, for scores in a limited range.
    """

    DEFINITION = "definition"
    SDPA = "sdpa"
    VARLEN = "varlen"
    SHARED_SCORES = "shared_scores"


_forced: list[AttentionBackend] = []


@contextmanager
def attention_backend(backend: AttentionBackend) -> Iterator[None]:
    """Force one way of computing FLARE attention, as `torch.nn.attention.sdpa_kernel`.

    For tests, benchmarks and bug reports: without it the quickest way that is exact is
    chosen for each graph. It holds in all threads. Where points are computed in chunks,
    backward computes them again: put it around backward too.

    Args:
        backend: The way.

    Raises:
        ValueError: If `backend` is no `AttentionBackend`; from attention inside, if the
            backend cannot compute what is asked for, with the reason.

    Examples:
        >>> conv, x = FLAREConv(16, heads=4), torch.randn(100, 16)
        >>> with attention_backend(AttentionBackend.DEFINITION):
        ...     y = conv(x)
        >>> torch.allclose(y, conv(x), atol=1e-6)
        True
    """
    # `isinstance` would tell mypy that what follows is never reached.
    if backend not in list(AttentionBackend):
        raise ValueError(
            f"backend is {backend!r}, expected one of "
            f"{', '.join(map(str, AttentionBackend))}"
        )
    _forced.append(backend)
    try:
        yield
    finally:
        _forced.pop()


class Choice(NamedTuple):
    """What `choose_backend` found.

    Args:
        backend: The way of all graphs, or of those that `fits` names.
        fits: Graphs of the layout, by their place in `sequence`, that `backend` can
            compute; the others take SDPA. `None` if it can compute all.
        traced: Whether only operations of torch may be used.
    """

    backend: AttentionBackend
    fits: list[bool] | None = None
    traced: bool = False


def choose_backend(
    verb: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    layout: PointBatch | None,
) -> Choice:
    """Choose how to compute attention. What is chosen for a graph depends on it alone.

    Args:
        verb: `"attention"`, `"encode"` or `"decode"`.
        q: Latent queries of all graphs, or of each.
        k: Keys of the points.
        v: Values of the points or, to decode, of the latents.
        scale: Factor on the scores.
        layout: The graphs; `None` for a dense batch that cannot be taken as rows,
            because it has a mask or is traced.

    Shapes:
        - `q`: $[1, H, M, D]$ or $[B, H, M, D]$, graphs in the order of the layout
        - `k`: $[N, H, D]$, or $[B, H, N, D]$ without a layout

    Returns:
        The choice.

    Raises:
        ValueError: If a forced backend cannot compute this.
    """
    forced = _forced[-1] if _forced else None
    traced = is_traced()
    if forced is None and is_transformed():
        return Choice(AttentionBackend.DEFINITION, None, True)
    if forced in (AttentionBackend.SDPA, AttentionBackend.DEFINITION):
        return Choice(forced, None, traced)
    if traced and forced is None:
        # The log-sum-exp of a fused kernel is not part of any public operator.
        backend = AttentionBackend.SDPA
        if verb == "encode":
            backend = AttentionBackend.DEFINITION
        return Choice(backend, None, True)
    if forced is not AttentionBackend.SHARED_SCORES:
        obstacle = _varlen_obstacle(verb, k, layout, traced)
        if obstacle is None:
            return Choice(AttentionBackend.VARLEN)
        if forced is AttentionBackend.VARLEN:
            raise ValueError(f"AttentionBackend.VARLEN is forced, but {obstacle}")
    obstacle = _shared_scores_obstacle(verb, q, k, v, scale, layout, traced)
    fits: list[bool] = []
    if obstacle is None and layout is not None:
        fits = _in_range(q, k, scale, layout)
        if all(fits):
            return Choice(AttentionBackend.SHARED_SCORES)
        obstacle = (
            f"the bound on its scores passes {LARGEST_SCORE[k.dtype]:g} in "
            f"{fits.count(False)} of {len(fits)} graphs, or is not finite"
        )
    if forced is AttentionBackend.SHARED_SCORES:
        raise ValueError(f"AttentionBackend.SHARED_SCORES is forced, but {obstacle}")
    if any(fits):
        return Choice(AttentionBackend.SHARED_SCORES, fits)
    return Choice(AttentionBackend.SDPA)


def _varlen_obstacle(
    verb: str, k: Tensor, layout: PointBatch | None, traced: bool
) -> str | None:
    """Return why the CUDA kernel for ragged sequences cannot be used, if so."""
    if layout is None or not layout.varlen:
        return "the batch is none of unequal graphs in half precision on CUDA"
    if verb != "attention":
        return f"it does not {verb}"
    if not has_varlen():
        return "this torch has no torch.nn.attention.varlen"
    if k.size(-1) not in range(8, 257, 8):
        return f"heads of width {k.size(-1)} are no multiple of 8 up to 256"
    return "operations are traced" if traced else None


def _shared_scores_obstacle(
    verb: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: Any,
    layout: PointBatch | None,
    traced: bool,
) -> str | None:
    """Return why the kernels of the CPU cannot be used, their range aside, if so."""
    if layout is None or traced:
        return "there is a mask, or operations are traced"
    if not has_cpu_memory(q, k, v):
        return f"k is a {type(k).__name__} on {k.device}, no ordinary tensor of a CPU"
    if not isinstance(scale, int | float):
        return f"scale is a {type(scale).__name__}, no number"
    if k.dtype not in LARGEST_SCORE or not q.dtype == k.dtype == v.dtype:
        return f"q, k and v are {q.dtype}, {k.dtype} and {v.dtype}, not one float type"
    if v.size(-1) != k.size(-1) or k.size(-1) > _LARGEST_WIDTH:
        return (
            f"keys of width {k.size(-1)} and values of {v.size(-1)} are not of one "
            f"width up to {_LARGEST_WIDTH}"
        )
    # Encoding leaves autocast, since states need single precision.
    if verb != "encode" and torch.is_autocast_enabled("cpu"):
        return "autocast asks for half precision"
    return None if is_available() else "llvmlite is missing or knows no such processor"


def _in_range(q: Tensor, k: Tensor, scale: float, layout: PointBatch) -> list[bool]:
    """Return which graphs have scores small enough, by the Cauchy-Schwarz inequality.

    Args:
        q: Latent queries of all graphs, or of each.
        k: Keys of the points, at least one.
        scale: Factor on the scores.
        layout: The graphs.

    Shapes:
        - `q`: $[1, H, M, D]$ or $[B, H, M, D]$
        - `k`: $[N, H, D]$
    """
    q, k = q.detach(), k.detach()
    largest = LARGEST_SCORE[k.dtype]
    # What the squares of small numbers lose by underflow.
    lost = math.sqrt(k.size(-1) * torch.finfo(k.dtype).tiny)
    length_q = lost + torch.linalg.vector_norm(q, dim=-1).amax(dim=2)  # [*, H]
    # The largest component bounds a length, in one quick read.
    low, high = torch.aminmax(k)
    length = max(-float(low), float(high)) * math.sqrt(k.size(-1)) + lost
    sizes: Sequence[int] = layout.tasks.sizes
    if abs(scale) * float(length_q.amax()) * length <= _MARGIN * largest:  # not for NaN
        return [True] * len(sizes)
    length_k = lost + torch.linalg.vector_norm(k, dim=-1)  # [N, H]
    graph = torch.repeat_interleave(torch.tensor(sizes, device="cpu"))
    longest = length_k.new_zeros(len(sizes), k.size(1)).scatter_reduce(
        0, graph.unsqueeze(-1).expand_as(length_k), length_k, "amax"
    )
    bound = abs(scale) * (length_q * longest).amax(dim=-1)  # [B]
    found: list[bool] = (bound <= largest).tolist()
    return found
