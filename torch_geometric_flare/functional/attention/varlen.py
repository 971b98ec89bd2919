"""The backend of PyTorch's fused CUDA kernel for ragged sequences."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from torch_geometric_flare.functional.attention.backend import (
    AttentionCall,
    Backend,
)

varlen_attn: Any
try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # older PyTorch
    varlen_attn = None


def _why_unsupported(call: AttentionCall) -> str | None:
    width = call.shapes[1][-1]
    if call.layout is None or not call.layout.varlen:
        return "the graphs are not of unequal size in half precision on CUDA"
    if call.log_weight is not None:
        return "the kernel does not support weights"
    if varlen_attn is None:
        return "this PyTorch version has no torch.nn.attention.varlen"
    if width not in range(8, 257, 8):
        return f"heads have width {width}, not a multiple of 8 up to 256"
    return None if call.tracing == "none" else "operations are traced"


def _attention(call: AttentionCall, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute attention within each graph by two calls of the kernel."""
    points, num_graphs, largest = _cumulative_sizes(call, q.device)
    num_latents = q.size(2)
    latents = num_latents * torch.arange(
        num_graphs + 1, device=q.device, dtype=torch.int32
    )
    queries = q.expand(num_graphs, -1, -1, -1).transpose(1, 2).flatten(0, 1)
    attend = _attend(call.scale)
    z = attend(queries, k, v, latents, points, num_latents, largest)
    return cast(Tensor, attend(k, queries, z, points, latents, largest, num_latents))


def _self_attention(call: AttentionCall, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute attention among the points of each graph by one call of the kernel."""
    points, _, largest = _cumulative_sizes(call, q.device)
    attend = _attend(call.scale)
    return cast(Tensor, attend(q, k, v, points, points, largest, largest))


def _cumulative_sizes(
    call: AttentionCall, device: torch.device
) -> tuple[Tensor, int, int]:
    """Return cumulative sizes [B + 1] as int32, the number of graphs, and the largest.

    The first entry is zero.
    """
    assert call.layout is not None
    (dense,) = call.layout.dense_batches
    sizes = torch.tensor([0, *(call.layout.sizes[g] for g in dense.graphs)])
    ends = sizes.cumsum(0).to(device, torch.int32)
    return ends, len(dense.graphs), dense.size


def _attend(scale: float) -> Callable[..., Any]:
    # With several splits, rounding would depend on the largest graph of the batch.
    return partial(varlen_attn, scale=scale, num_splits=1)


VARLEN = Backend("varlen", _why_unsupported, _attention, self_attention=_self_attention)
