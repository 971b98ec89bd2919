r"""Attention of few queries to many keys, with the keys split into parts.

A fused kernel launches one thread block per tile of queries and head. FLARE encodes
with only 64 to 256 queries, so with one graph per batch most of a GPU is idle.
Therefore, parts of the keys become batch entries, whose results `SoftmaxState.merge`
combines.

Backward needs no merging: given the result $z$ and the log-sum-exp of all keys, the
kernel returns each part's share of the gradients.
"""

from typing import Any

import torch
from torch import Tensor

from torch_geometric_flare.functional.attention.backend import (
    AttentionCall,
    Backend,
    on_blocks,
)
from torch_geometric_flare.functional.attention.reference import (
    key_mask,
    softmax_attention,
)
from torch_geometric_flare.functional.attention.sdpa import fused_attention
from torch_geometric_flare.functional.autograd import (
    differentiable_gradients,
    needs_reference,
)
from torch_geometric_flare.functional.state import SoftmaxState
from torch_geometric_flare.functional.torch_internals import (
    fused_with_lse,
    fused_with_lse_backward,
)

# Number of queries per thread block.
_TILE = 64
# Number of thread blocks per multiprocessor.
_BLOCKS = 2
# Smaller parts take less time than a kernel launch.
_LEAST_KEYS = 1024


def key_splits(
    num_keys: int, num_queries: int, heads: int, batch: int, multiprocessors: int
) -> int:
    """Return the number of parts of the keys that fills a GPU.

    Args:
        num_keys: Number of keys of each batch entry.
        num_queries: Number of queries of each batch entry.
        heads: Number of heads.
        batch: Number of batch entries.
        multiprocessors: Number of multiprocessors of the GPU.
    """
    blocks = batch * heads * -(-num_queries // _TILE)
    if blocks == 0:
        return 1
    wanted = _BLOCKS * multiprocessors // blocks
    return max(1, min(wanted, num_keys // _LEAST_KEYS))


def _parts(x: Tensor, splits: int) -> Tensor:
    """Return keys [B, H, S n, D] as batch entries [B S, H, n, D]."""
    batch, heads, keys, width = x.shape
    x = x.reshape(batch, heads, splits, keys // splits, width).transpose(1, 2)
    return x.flatten(0, 1)


def _whole(parts: Tensor, splits: int) -> Tensor:
    """Return batch entries [B S, H, n, D] as keys; the inverse of `_parts`."""
    entries, heads, keys, width = parts.shape
    parts = parts.reshape(entries // splits, splits, heads, keys, width)
    return parts.transpose(1, 2).flatten(2, 3)


def _repeat(x: Tensor, splits: int) -> Tensor:
    """Return a copy of each batch entry for each of its parts."""
    return x.repeat_interleave(splits, dim=0)


class _SplitAttention(torch.autograd.Function):
    """Attention with keys in equal parts and a remainder."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float, splits: int
    ) -> Tensor:
        main = k.size(2) - k.size(2) % splits
        states = []
        keys, values = (_parts(t[:, :, :main], splits) for t in (k, v))
        value, lse = fused_with_lse(_repeat(q, splits), keys, values, scale)
        value = value.to(lse.dtype).unflatten(0, (-1, splits))
        lse = lse.unflatten(0, (-1, splits))
        states += [SoftmaxState(value[:, i], lse[:, i]) for i in range(splits)]
        if main < k.size(2):
            value, lse = fused_with_lse(q, k[:, :, main:], v[:, :, main:], scale)
            states.append(SoftmaxState(value.to(lse.dtype), lse))
        while len(states) > 1:  # pairwise merging is precise for many parts
            pairs = zip(states[::2], states[1::2], strict=False)
            merged = [a.merge(b) for a, b in pairs]
            states = merged + states[2 * len(merged) :]
        z = states[0].value.to(q.dtype)
        ctx.save_for_backward(q, k, v, z, states[0].lse)
        ctx.scale, ctx.splits, ctx.main = scale, splits, main
        return z

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, z, lse = ctx.saved_tensors
        scale, splits, main = ctx.scale, ctx.splits, ctx.main
        (grad,) = grads
        if needs_reference(grad):

            def recompute(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                return softmax_attention(q, k, v, None, scale)

            wanted = ctx.needs_input_grad[:3]
            gradients = differentiable_gradients(recompute, (q, k, v), wanted, grad)
            return *gradients, None, None
        grad = grad.contiguous()
        keys, values = (_parts(t[:, :, :main], splits) for t in (k, v))
        of_query, of_key, of_value = fused_with_lse_backward(
            _repeat(grad, splits),
            (_repeat(q, splits), keys, values),
            _repeat(z, splits),
            _repeat(lse, splits),
            scale,
        )
        grad_q = of_query.unflatten(0, (-1, splits)).sum(dim=1)
        of_keys, of_values = [_whole(of_key, splits)], [_whole(of_value, splits)]
        if main < k.size(2):
            rest = q, k[:, :, main:], v[:, :, main:]
            more = fused_with_lse_backward(grad, rest, z, lse, scale)
            grad_q = grad_q + more[0]
            of_keys.append(more[1])
            of_values.append(more[2])
        return grad_q, torch.cat(of_keys, 2), torch.cat(of_values, 2), None, None


def split_attention(
    q: Tensor, k: Tensor, v: Tensor, scale: float, splits: int
) -> Tensor:
    r"""Compute softmax attention with the keys in parts.

    Args:
        q: Queries.
        k: Keys, at least one per part.
        v: Values, as wide as the keys.
        scale: Scaling factor of the scores.
        splits: Number of equal parts; the remaining keys form another part.

    Shapes:
        - `q`: $[B, H, M, D]$
        - `k`, `v`: $[B, H, N, D]$

    Returns:
        $[B, H, M, D]$. Supports derivatives of any order.
    """
    z: Tensor = _SplitAttention.apply(  # type: ignore[no-untyped-call]
        q, k, v, scale, splits
    )
    return z


def _why_unsupported(call: AttentionCall) -> str | None:
    if call.device.type != "cuda":
        return f"k is on {call.device}, not on CUDA"
    if torch.version.hip is not None:
        return "its CUDA kernels are untested on AMD GPUs"
    if call.log_weight is not None:
        return "its kernels do not support weights"
    if call.tracing != "none" or call.mask is not None:
        return "there is a mask, or operations are traced"
    dtype, width = call.dtypes[1], call.shapes[1][-1]
    if set(call.dtypes) != {dtype} or dtype == torch.float64:
        return f"q, k and v are {call.dtypes}, not all float32 or all half precision"
    if call.autocast is not None and dtype == torch.float32:
        return "autocast chooses the precision"
    if call.shapes[2][-1] != width or width % 8 != 0:
        return f"keys have width {width}, values {call.shapes[2][-1]}"
    if torch.cuda.get_device_properties(call.device).major < 8:
        return "the GPU is older than Ampere"
    return None


def _attention(
    call: AttentionCall, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
) -> Tensor:
    z = _gather(call, q, k, v, mask)
    return fused_attention(k, q, z, None, call.scale, False)


def _gather(
    call: AttentionCall, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
) -> Tensor:
    batch, heads, num_keys, _ = k.shape
    gpu = torch.cuda.get_device_properties(k.device).multi_processor_count
    splits = key_splits(num_keys, q.size(-2), heads, batch, gpu)
    if mask is not None or splits == 1:
        return fused_attention(q, k, v, key_mask(mask), call.scale, False)
    return split_attention(q, k, v, call.scale, splits)


SPLIT_KEYS = Backend("split_keys", _why_unsupported, on_blocks(_attention))
