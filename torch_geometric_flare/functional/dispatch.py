"""The one place that chooses how FLARE attention is computed, and runs it.

Rows are in the order of a layout, latents [1, H, M, D] of all graphs or [B, H, M, D] of
each, in the order of the layout and without empty graphs. There is at least one row.
Each verb chooses once. What is chosen for a graph depends on that graph alone: if one
backend cannot compute some graphs, such as those whose scores are not finite, another
computes these.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn import Parameter

from torch_geometric_flare.functional import attention_operator
from torch_geometric_flare.functional.backend import FORCED_BACKENDS, AttentionBackend
from torch_geometric_flare.functional.dense import (
    Choice,
    dense_attention,
    dense_decode,
    dense_encode,
    no_autocast,
)
from torch_geometric_flare.functional.point_batch import PointBatch
from torch_geometric_flare.functional.shared_scores import (
    LARGEST_SCORE,
    graphs_in_range,
    shared_attention,
    shared_decode,
    shared_encode,
)
from torch_geometric_flare.functional.state import SoftmaxState
from torch_geometric_flare.functional.torch_internals import (
    is_compiled,
    is_traced,
    is_transformed,
)
from torch_geometric_flare.functional.varlen import varlen_attention, varlen_obstacle
from torch_geometric_flare.kernels.llvm import is_available

_Result = TypeVar("_Result", Tensor, SoftmaxState)

_LOGGER = logging.getLogger(__name__)

# Wider heads take long to compile, and gain less.
_LARGEST_WIDTH = 64

_TRACED = "operations are traced"


def has_cpu_memory(*tensors: Tensor | None) -> bool:
    """Return whether all tensors are ordinary ones, whose addresses a CPU can use."""
    for t in tensors:
        if t is not None and (
            type(t) not in (Tensor, Parameter)
            or t.device.type != "cpu"
            or t.layout != torch.strided
        ):
            return False
    return True


def choose_backend(
    verb: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    layout: PointBatch | None,
) -> Choice:
    """Choose how to compute attention. What is chosen for a graph depends on it alone.

    At level DEBUG, log what is chosen and why, except under `torch.compile`.

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
    choice, reason = _choose(verb, q, k, v, scale, layout)
    # The compiler of torch would stop at a logger.
    if not torch.compiler.is_compiling() and _LOGGER.isEnabledFor(logging.DEBUG):
        _LOGGER.debug("%s takes %s: %s", verb, choice.backend.name, reason)
    return choice


def _choose(
    verb: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    layout: PointBatch | None,
) -> tuple[Choice, str]:
    """Return the choice of `choose_backend`, and the reason for it."""
    forced = FORCED_BACKENDS[-1] if FORCED_BACKENDS else None
    traced = is_traced()
    if forced in (AttentionBackend.SDPA, AttentionBackend.DEFINITION):
        return Choice(forced, None, traced), "it is forced"
    if traced and forced is None:
        # Fused attention is not differentiable twice under `torch.func`, and its
        # log-sum-exp is not part of any public operator.
        if verb == "encode" or is_transformed():
            return Choice(AttentionBackend.DEFINITION, None, True), _TRACED
        if verb == "attention" and is_compiled():
            obstacle = _shared_scores_obstacle(verb, q, k, v, scale, layout, False)
            if obstacle is None:
                return Choice(AttentionBackend.SHARED_SCORES, None, True), _TRACED
        return Choice(AttentionBackend.SDPA, None, True), _TRACED
    if forced is AttentionBackend.VARLEN or (layout is not None and layout.varlen):
        obstacle = varlen_obstacle(verb, k, layout, traced)
        if obstacle is None and forced is not AttentionBackend.SHARED_SCORES:
            return Choice(AttentionBackend.VARLEN), "unequal graphs on CUDA"
        if forced is AttentionBackend.VARLEN:
            raise ValueError(f"AttentionBackend.VARLEN is forced, but {obstacle}")
    obstacle = _shared_scores_obstacle(verb, q, k, v, scale, layout, traced)
    fits: list[bool] = []
    if obstacle is None and layout is not None:
        fits = graphs_in_range(q, k, layout.tasks.sizes, scale)
        if False not in fits:
            return Choice(AttentionBackend.SHARED_SCORES), "nothing is in the way"
        obstacle = (
            f"scores may pass {LARGEST_SCORE[k.dtype]:g} or be no numbers in "
            f"{fits.count(False)} of {len(fits)} graphs"
        )
    if forced is AttentionBackend.SHARED_SCORES:
        raise ValueError(f"AttentionBackend.SHARED_SCORES is forced, but {obstacle}")
    if True in fits:
        return Choice(AttentionBackend.SHARED_SCORES, fits), obstacle or ""
    return Choice(AttentionBackend.SDPA), obstacle or "there is no graph"


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
    if not isinstance(scale, (int, float)):
        return f"scale is a {type(scale).__name__}, no number"
    if k.dtype not in LARGEST_SCORE or not q.dtype == k.dtype == v.dtype:
        return f"q, k and v are {q.dtype}, {k.dtype} and {v.dtype}, not one float type"
    if v.size(-1) != k.size(-1) or k.size(-1) > _LARGEST_WIDTH:
        return (
            f"keys of width {k.size(-1)} and values of {v.size(-1)} are not of one "
            f"width up to {_LARGEST_WIDTH}"
        )
    if torch.is_autocast_enabled("cpu"):
        return "autocast asks for half precision"
    compiling = torch.compiler.is_compiling()
    available = attention_operator.has_kernels() if compiling else is_available()
    return None if available else "llvmlite is missing or knows no such processor"


def latent_blocks(batch: PointBatch, latents: Tensor) -> list[Tensor]:
    """Return latents in the order of the layout as [B, H, M, D] per dense batch."""
    counts = [len(dense.graphs) for dense in batch.dense_batches]
    if latents.size(0) == 1:
        return [latents.expand(count, -1, -1, -1) for count in counts]
    return list(latents.split(counts))


def row_blocks(batch: PointBatch, rows: Tensor) -> list[Tensor]:
    """Return rows in the order of the layout as [B, H, n, D] per dense batch."""
    return [block.transpose(1, 2) for block in batch.split(rows)]


def join_blocks(batch: PointBatch, blocks: Sequence[Tensor]) -> Tensor:
    """Return [B, H, n, D] per dense batch as rows, the inverse of `row_blocks`."""
    return batch.join([block.transpose(1, 2) for block in blocks])


def _blocks(
    batch: PointBatch, q: Tensor, k: Tensor, v: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
    """Iterate over q, k, v [B, H, n, D] and the mask of each dense batch."""
    return zip(
        latent_blocks(batch, q),
        row_blocks(batch, k),
        row_blocks(batch, v),
        [dense.mask for dense in batch.dense_batches],
        strict=True,
    )


class _Part(NamedTuple):
    """Some graphs of a batch: their places in its sequence, rows, and layout."""

    places: list[int]
    rows: Tensor
    layout: PointBatch

    def latents(self, latents: Tensor) -> Tensor:
        return latents if latents.size(0) == 1 else latents[self.places]


def _parts(batch: PointBatch, fits: list[bool]) -> list[_Part]:
    """Split a batch into the graphs that fit a backend and those that do not."""
    parts = []
    for wanted in (True, False):
        places = [i for i, fit in enumerate(fits) if fit is wanted]
        rows, layout = batch.select(places)
        parts.append(_Part([places[i] for i in layout.sequence], rows, layout))
    return parts


def _join_parts(parts: Sequence[_Part], rows: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(rows))[torch.cat([part.rows for part in parts]).argsort()]


def _in_single_precision(
    verb: str,
    function: Callable[..., _Result],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    batch: PointBatch,
    scale: float,
) -> _Result | None:
    """Compute outside autocast, if the kernels of the CPU can, the quicker way."""
    if k.device.type != "cpu" or torch.float64 in (q.dtype, k.dtype, v.dtype):
        return None
    if FORCED_BACKENDS and FORCED_BACKENDS[-1] is not AttentionBackend.SHARED_SCORES:
        return None
    if is_traced() and not (verb == "attention" and is_compiled()):
        return None
    with no_autocast("cpu"):
        q, k, v = q.float(), k.float(), v.float()
        if _shared_scores_obstacle(verb, q, k, v, scale, batch, False) is not None:
            return None
        return function(q, k, v, batch, scale)


def ragged_attention(
    q: Tensor, k: Tensor, v: Tensor, batch: PointBatch, scale: float
) -> Tensor:
    """Compute `ragged_flare_attention`, unchecked; see this file's head for shapes."""
    if torch.is_autocast_enabled("cpu"):
        single = _in_single_precision(
            "attention", ragged_attention, q, k, v, batch, scale
        )
        if single is not None:
            return single.to(torch.get_autocast_dtype("cpu"))
    choice = choose_backend("attention", q, k, v, scale, batch)
    if choice.fits is not None:
        parts = _parts(batch, choice.fits)
        return _join_parts(
            parts,
            [
                ragged_attention(p.latents(q), k[p.rows], v[p.rows], p.layout, scale)
                for p in parts
            ],
        )
    if choice.backend is AttentionBackend.SHARED_SCORES:
        if choice.traced:
            sizes = [batch.sizes[graph] for graph in batch.sequence]
            y: Tensor = attention_operator.attention(q, k, v, sizes, scale)[0]
            return y
        return shared_attention(q, k, v, batch.tasks, scale)
    if choice.backend is AttentionBackend.VARLEN:
        return varlen_attention(q, k, v, batch, scale)
    return join_blocks(
        batch, [dense_attention(choice, *b, scale) for b in _blocks(batch, q, k, v)]
    )


def ragged_encode(
    q: Tensor, k: Tensor, v: Tensor, batch: PointBatch, scale: float
) -> SoftmaxState:
    """Compute `ragged_flare_encode`, unchecked, states in the order of the layout."""
    if torch.is_autocast_enabled("cpu"):
        state = _in_single_precision("encode", ragged_encode, q, k, v, batch, scale)
        if state is not None:
            return state
    choice = choose_backend("encode", q, k, v, scale, batch)
    if choice.fits is not None:
        parts = _parts(batch, choice.fits)
        states = [
            ragged_encode(p.latents(q), k[p.rows], v[p.rows], p.layout, scale)
            for p in parts
        ]
        order = torch.tensor(parts[0].places + parts[1].places).argsort()
        value, lse = SoftmaxState.cat(states)
        return SoftmaxState(value[order], lse[order])
    if choice.backend is AttentionBackend.SHARED_SCORES:
        return shared_encode(q, k, v, batch.tasks, scale)
    states = [dense_encode(choice, *b, scale) for b in _blocks(batch, q, k, v)]
    return SoftmaxState.cat(states)


def ragged_decode(
    q: Tensor, k: Tensor, z: Tensor, batch: PointBatch, scale: float
) -> Tensor:
    """Compute `ragged_flare_decode`, unchecked; `z` is [B, H, M, D]."""
    if torch.is_autocast_enabled("cpu"):
        single = _in_single_precision("decode", ragged_decode, q, k, z, batch, scale)
        if single is not None:
            return single.to(torch.get_autocast_dtype("cpu"))
    choice = choose_backend("decode", q, k, z, scale, batch)
    if choice.fits is not None:
        parts = _parts(batch, choice.fits)
        return _join_parts(
            parts,
            [
                ragged_decode(p.latents(q), k[p.rows], z[p.places], p.layout, scale)
                for p in parts
            ],
        )
    if choice.backend is AttentionBackend.SHARED_SCORES:
        return shared_decode(q, k, z, batch.tasks, scale)
    blocks = zip(
        latent_blocks(batch, q),
        row_blocks(batch, k),
        z.split([len(dense.graphs) for dense in batch.dense_batches]),
        strict=True,
    )
    return join_blocks(batch, [dense_decode(choice, *block, scale) for block in blocks])
