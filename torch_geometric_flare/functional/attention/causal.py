"""Causal FLARE attention at linear cost.

Blocks of steps are encoded in parallel, and a prefix scan that merges their states
gives the exact state before each block. Within a block, attention is a masked matrix of
rank M. If scores grow too much within a block for this, the first half of its steps is
gathered into the latents and passed to the second half, recursively down to single
steps, relative to the largest score so far. This does not overflow for any scores.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

from torch_geometric_flare._arguments import check_integers
from torch_geometric_flare.functional.attention.dense import check_dense, flare_encode
from torch_geometric_flare.functional.autograd import any_requires_grad
from torch_geometric_flare.functional.checks import check_given
from torch_geometric_flare.functional.state import SoftmaxState, state_dtype
from torch_geometric_flare.functional.torch_internals import no_autocast, tracing

# Number of blocks that run in parallel, with all intermediate results in memory.
_BLOCKS = 64


def causal_flare_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float = 1.0,
    state: SoftmaxState | None = None,
    block_size: int = 64,
) -> Tensor:
    r"""Compute causal FLARE attention: step $i$ sees the steps $j \le i$.

    $$y_i = \sum_m \mathrm{softmax}_m(s\,q_m \cdot k_i)\,
      \frac{\sum_{j \le i} e^{s\,q_m \cdot k_j} v_j}
           {\sum_{j \le i} e^{s\,q_m \cdot k_j}}$$

    The result of the last step equals that of `flare_attention`. The cost is
    $O(NM(D + n))$ for blocks of $n$ steps. More than 64 blocks are computed 64 at a
    time and recomputed in backward, so that memory grows only with the inputs. Supports
    derivatives of any order.

    Args:
        q: Latent queries.
        k: Keys of the steps, in order.
        v: Values of the steps.
        scale: Scaling factor $s$ of the scores in both steps.
        state: The state of earlier steps, from `flare_encode` with the same queries;
            `None` if there are none.
        block_size: Number of steps $n$ per block; does not change the result.

    Shapes:
        - `q`: $[H, M, D]$
        - `k`, `v`: $[B, H, N, D]$; $N$ may be zero
        - `state`: value $[B, H, M, D]$, log-sum-exp $[B, H, M]$

    Returns:
        $[B, H, N, D]$; sums are computed in at least float32.

    Raises:
        ValueError: If the shapes do not agree, or `block_size` is not positive.

    Examples:
        >>> q, k, v = torch.randn(8, 64, 8), *torch.randn(2, 1, 8, 1000, 8)
        >>> y = causal_flare_attention(q, k, v)
        >>> early = causal_flare_attention(q, k[:, :, :600], v[:, :, :600])
        >>> torch.allclose(y[:, :, :600], early, atol=1e-5)
        True
    """
    check_given(v=v)
    check_dense(q, k, v, None, scale)
    check_integers(1, block_size=block_size)
    if q.dim() != 3:
        raise ValueError(f"q has shape {tuple(q.shape)}, expected [H, M, D]")
    shape, dtype = (k.size(0), *q.shape[:2], v.size(-1)), state_dtype(v.dtype)
    if state is None:
        state = SoftmaxState.empty(*shape, like=v.new_empty(0, dtype=dtype))
    if state.value.shape != shape:
        raise ValueError(
            f"state.value has shape {tuple(state.value.shape)}, expected {shape}"
        )
    if k.size(2) == 0:
        return v
    q, k, values = q.to(dtype), k.to(dtype), v.to(dtype)
    state = SoftmaxState(*(part.to(dtype) for part in state))
    steps, parts = _BLOCKS * block_size, []
    recompute = k.size(2) > steps and any_requires_grad(q, k, values, *state)
    with no_autocast(v.device.type):
        for keys, part in zip(k.split(steps, 2), values.split(steps, 2), strict=True):
            arguments = q, keys, part, *state, scale, block_size
            if recompute:
                y = checkpoint(
                    _attend, *arguments, use_reentrant=False, preserve_rng_state=False
                )
            else:
                y = _attend(*arguments)
            parts.append(y)
            if len(parts) * steps < k.size(2):
                state = state.merge(flare_encode(q, keys, part, scale=scale))
    return torch.cat(parts, dim=2).to(v.dtype)


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    value: Tensor,
    lse: Tensor,
    scale: float,
    block_size: int,
) -> Tensor:
    """Compute all blocks in parallel; shapes as in `causal_flare_attention`."""
    graphs, num_steps = k.size(0), k.size(2)
    block_size = min(block_size, num_steps)
    num_blocks = -(-num_steps // block_size)

    def cut(x: Tensor) -> Tensor:
        """Return blocks [T * B, H, n, D] of steps [B, H, N, D]."""
        x = pad(x, (0, 0, 0, num_blocks * block_size - num_steps))
        x = x.unflatten(2, (num_blocks, block_size))
        return x.movedim(2, 0).flatten(0, 1)

    k, v = cut(k), cut(v)
    before = SoftmaxState(value[None], lse[None])  # [1, B, H, M, D]
    if num_blocks > 1:
        blocks = flare_encode(q, k, v, scale=scale)
        sizes = num_blocks, graphs
        before = _prefixes(
            SoftmaxState(*(part.unflatten(0, sizes) for part in blocks)), before
        )
    before = SoftmaxState(*(part.flatten(0, 1) for part in before))
    y = _attend_blocks(q, k, v, before, scale)
    y = y.reshape(num_blocks, graphs, *y.shape[1:]).movedim(0, 2)
    return y.flatten(2, 3)[:, :, :num_steps]


def _prefixes(states: SoftmaxState, first: SoftmaxState) -> SoftmaxState:
    """Return the state before each of `states` [T, ...], which `first` precedes."""
    num = len(states.lse)
    if num == 1:
        return first
    if num % 2:
        empty = states.empty_like(1, states.value.dtype)
        states = SoftmaxState.cat([states, empty])
    even, odd = (SoftmaxState(*(part[i::2] for part in states)) for i in (0, 1))
    before = _prefixes(even.merge(odd), first)
    after = before.merge(even)
    pairs = zip(before, after, strict=True)
    return SoftmaxState(*(torch.stack(p, dim=1).flatten(0, 1)[:num] for p in pairs))


def _attend_blocks(
    q: Tensor, k: Tensor, v: Tensor, before: SoftmaxState, scale: float
) -> Tensor:
    """Compute the steps of each block.

    Args:
        q: Latent queries, [H, M, D].
        k: Keys of the steps, [B, H, n, D].
        v: Values of the steps, [B, H, n, D].
        before: The state before each block.
        scale: Scaling factor of the scores.
    """
    scores = scale * k @ q.mT  # [B, H, n, M]
    if tracing() != "none":
        return _attend_by_halves(scores, v, before)
    # The growth of the largest score so far within each block.
    seen = scores.detach()
    growth = seen.amax(dim=2) - torch.maximum(before.lse.detach(), seen[:, :, 0])
    large = (growth > math.log(torch.finfo(v.dtype).max) / 4).flatten(1).any(dim=1)
    y = torch.empty_like(v)
    for attend, chosen in (
        (_attend_by_mask, ~large),
        (_attend_by_halves, large),
    ):
        rows = chosen.nonzero().squeeze(-1)
        if len(rows) == len(v):
            return attend(scores, v, before)
        if len(rows) > 0:
            states = SoftmaxState(*(part[rows] for part in before))
            y = y.index_copy(0, rows, attend(scores[rows], v[rows], states))
    return y


def _attend_by_mask(scores: Tensor, v: Tensor, before: SoftmaxState) -> Tensor:
    """Compute blocks as masked attention, with one reference score for all steps."""
    reference = torch.maximum(scores.amax(dim=2), before.lse).detach()
    weight = (scores - reference.unsqueeze(2)).exp()
    carried = (before.lse - reference).exp()
    share = scores.softmax(dim=-1) / (weight.cumsum(dim=2) + carried.unsqueeze(2))
    seen = (share @ weight.mT).tril()
    return seen @ v + share @ (carried.unsqueeze(-1) * before.value)


def _attend_by_halves(scores: Tensor, v: Tensor, before: SoftmaxState) -> Tensor:
    """Compute blocks for scores of any range."""
    num_steps, latents, channels = *scores.shape[2:], v.size(-1)
    width = 1 << (num_steps - 1).bit_length()
    scores, v = (pad(x, (0, 0, 0, width - num_steps)) for x in (scores, v))
    # The largest score so far cancels in the result, so it needs no gradient.
    earlier = before.lse.unsqueeze(2)
    top = torch.maximum(scores.detach().cummax(dim=2).values, earlier.detach())
    weight, carried = (scores - top).exp(), (earlier - top).exp()

    # Per latent, the sum over the steps j <= i of exp(score of j - top of i).
    total, halves = weight, []
    for size in _sizes(width):
        early, late = _halves(scores, size)[0], _halves(top, size)[1]
        reference = _halves(top, size)[0][..., -1:, :]
        gather, receive = (early - reference).exp(), (reference - late).exp()
        halves.append((gather, receive))
        first, second = _halves(total, size)
        total = _join(first, second + receive * first[..., -1:, :])
    share = scores.softmax(dim=-1) / (total + carried)

    y = (share * weight).sum(-1, keepdim=True) * v + (share * carried) @ before.value
    for size, (gather, receive) in zip(_sizes(width), halves, strict=True):
        receive = _halves(share, size)[1] * receive
        values = _halves(v, size)[0]
        if size * (latents + channels) < 2 * latents * channels:
            passed = (receive @ gather.mT) @ values
        else:
            passed = receive @ (gather.mT @ values)
        first, second = _halves(y, size)
        y = _join(first, second + passed)
    return y[:, :, :num_steps]


def _sizes(width: int) -> list[int]:
    """Return 1, 2, 4, ... up to half of a power of two."""
    return [1 << i for i in range(width.bit_length() - 1)]


def _halves(x: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Split steps [B, H, n, C] into pairs of neighbors, each [B, H, T, size, C]."""
    first, second = x.unflatten(2, (-1, 2, size)).unbind(3)
    return first, second


def _join(first: Tensor, second: Tensor) -> Tensor:
    """Return steps [B, H, n, C]; the inverse of `_halves`."""
    return torch.stack([first, second], dim=3).flatten(2, 4)
