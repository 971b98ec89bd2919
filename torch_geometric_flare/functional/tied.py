r"""FLARE attention on the CPU from one exponential of the shared scores.

Gathering and scattering are softmaxes of one score matrix, over its two axes. With
$E = \exp(s\,KQ^\top)$, here `[H, n, M]` for a block of points:

- forward: $Z = E^\top V / E^\top 1$ and $Y = r \circ E Z$ with $r = 1 / E 1$;
- backward: $Y' = r \circ \partial Y$, $Z' = E^\top Y' / E^\top 1$, and
  $\partial S = E \circ (Y' Z^\top - \langle Y', Y\rangle + V Z'^\top
  - \langle Z', Z\rangle)$, from which $\partial K = s\,\partial S\,Q$,
  $\partial Q = s\,\partial S^\top K$ and $\partial V = E Z'$.

Two passes over blocks of points in each direction; E is made again in every pass, which
is quicker than reading it from memory. No maximum is subtracted, so the scores must be
small; `in_range` says whether they are for certain.
"""

from typing import Any

import torch
from torch import Tensor

from torch_geometric_flare.functional.fused import (
    differentiable_gradients,
    is_traced,
    is_tracked,
    softmax_attention,
)
from torch_geometric_flare.functional.threads import over_ranges

# Elements of E in a block: two MiB in float32. Smaller blocks fit a cache better,
# but threads then wait for each other more often.
_BLOCK_ELEMENTS = 1 << 19

# With |score| below this, sums over 10^8 points, their reciprocals and products with
# gradients of any usual size are normal numbers.
_LARGEST_SCORE = {torch.float32: 40.0, torch.float64: 300.0}


def prefers_tied(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> bool:
    """Whether this kernel applies, and is the quicker one for these shapes.

    Args:
        q: Latent queries, $[B, H, M, D]$.
        k: Keys, $[B, H, N, D]$.
        v: Values, $[B, H, N, D]$.
        mask: A mask over the keys.
    """
    return (
        not is_traced()
        and k.device.type == "cpu"
        and k.dtype in _LARGEST_SCORE
        and q.dtype == k.dtype == v.dtype
        and mask is None
        and v.size(-1) == k.size(-1)
        and _is_quicker(k.size(2), q.size(2), is_tracked(q, k, v))
        and not torch.is_autocast_enabled("cpu")
    )


def _is_quicker(points: int, latents: int, tracked: bool) -> bool:
    """Thresholds measured by `examples/benchmarks/tied.py`.

    One thread gains early. Several wait for each other between small operations, so the
    set must be large; forward alone gains less, and nothing with many latents.
    """
    if torch.get_num_threads() == 1:
        return points >= 8192
    return points >= 32_768 and (tracked or latents <= 128)


def in_range(q: Tensor, k: Tensor, scale: float) -> bool:
    """Whether all scores are small enough, by the Cauchy-Schwarz inequality.

    Args:
        q: Latent queries.
        k: Keys.
        scale: Factor on the scores.

    Shapes:
        - `q`: $[B, H, M, D]$
        - `k`: $[B, H, N, D]$
    """
    if k.size(2) == 0:
        return False
    largest = _LARGEST_SCORE[k.dtype]
    longest_q = torch.linalg.vector_norm(q.detach(), dim=-1).amax(-1)  # [B, H]
    # The largest component bounds a length, in one quick pass.
    low, high = torch.aminmax(k.detach())
    length = max(-float(low), float(high)) * k.size(-1) ** 0.5
    if abs(scale) * float(longest_q.amax()) * length <= largest:  # false for NaN
        return True
    longest_k = torch.linalg.vector_norm(k.detach(), dim=-1).amax(-1)
    return abs(scale) * float((longest_q * longest_k).amax()) <= largest


def twin(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """The same function by explicit scores, differentiable any number of times."""
    z = softmax_attention(q, k, v, None, scale)
    return softmax_attention(k, q, z, None, scale)


class _Kernel:
    """One graph: k, v, g and y are [N, H, D], q is [H, M, D]."""

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        scale: float,
        kept: Tensor | None = None,
    ) -> None:
        self.q, self.scale = q, scale
        self.k, self.v = k.transpose(0, 1), v.transpose(0, 1)  # [H, N, D]
        self.heads, self.latents, self.width = q.shape
        self.points = k.size(0)
        self.scaled_q = scale * q
        self.scores_q = self.scaled_q.mT.contiguous()  # [H, D, M]
        rows = max(64, _BLOCK_ELEMENTS // (self.heads * self.latents))
        self.block = min(self.points, rows)
        # Times [n, H], repeats each head's value over its width: [n, H * D].
        self.spread = torch.block_diag(*[q.new_ones(1, self.width)] * self.heads)
        # A single block serves all passes.
        self.kept = kept

    def scratch(self, *shape: int) -> Tensor:
        return self.q.new_empty(shape)

    def exponentials(self, rows: slice, out: Tensor) -> Tensor:
        """E of some points, into `out`."""
        if self.kept is not None:
            return self.kept
        out = out[:, : rows.stop - rows.start]
        torch.bmm(self.k[:, rows], self.scores_q, out=out).exp_()
        if self.block == self.points:
            self.kept = out
        return out

    def blocks(self, start: int, stop: int) -> list[slice]:
        step = max(1, self.block)
        return [slice(i, min(i + step, stop)) for i in range(start, stop, step)]

    def over_points(self, function: Any) -> list[Tensor]:
        """Sums of what `function` returns for ranges of points."""
        parts = over_ranges(function, self.points, self.block)
        return [sum(pieces[1:], pieces[0]) for pieces in zip(*parts, strict=True)]

    def forward(self, y: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        """Fill y [N, H, D] and r [N, H]; give Z [H, M, D] and E^T 1 [H, M]."""
        heads, latents, width = self.q.shape

        def gather(start: int, stop: int) -> tuple[Tensor, Tensor]:
            e = self.scratch(heads, self.block, latents)
            total = self.q.new_zeros(heads, width, latents)
            weight = self.q.new_zeros(heads, latents)
            for rows in self.blocks(start, stop):
                block = self.exponentials(rows, e)
                total.baddbmm_(self.v[:, rows].mT, block)
                weight.add_(block.sum(dim=1))
            return total, weight

        total, weight = self.over_points(gather)
        z = (total / weight.unsqueeze(1)).mT.contiguous()

        def scatter(start: int, stop: int) -> tuple[()]:
            e = self.scratch(heads, self.block, latents)
            for rows in self.blocks(start, stop):
                block = self.exponentials(rows, e)
                torch.bmm(block, z, out=y[rows].transpose(0, 1))
                torch.reciprocal(block.sum(dim=2).mT, out=r[rows])
                y[rows].flatten(1).mul_(r[rows] @ self.spread)
            return ()

        self.over_points(scatter)
        return z, weight

    def backward(
        self,
        g: Tensor,
        y: Tensor,
        r: Tensor,
        z: Tensor,
        weight: Tensor,
        grad_k: Tensor,
        grad_v: Tensor,
    ) -> Tensor:
        """Fill the gradients of k and v [N, H, D]; give that of q [H, M, D]."""
        heads, latents, width = self.q.shape
        g, y = g.flatten(1), y.flatten(1)

        def gather(start: int, stop: int) -> tuple[Tensor]:
            e = self.scratch(heads, self.block, latents)
            total = self.q.new_zeros(heads, width, latents)
            for rows in self.blocks(start, stop):
                block = self.exponentials(rows, e)
                scaled = (r[rows] @ self.spread).mul_(g[rows])
                scaled = scaled.unflatten(1, (heads, width))
                total.baddbmm_(scaled.permute(1, 2, 0), block)
            return (total,)

        (total,) = self.over_points(gather)
        grad_z = total / weight.unsqueeze(1)  # [H, D, M], over E^T 1
        # [Y' V -<Y', Y> 1] times this is the bracket in the formula of dS.
        right = torch.cat(
            [
                z.mT,
                grad_z,
                self.q.new_ones(heads, 1, latents),
                -(grad_z * z.mT).sum(dim=1, keepdim=True),
            ],
            dim=1,
        )
        grad_z = grad_z.mT.contiguous()
        negative_sum = -self.spread.mT

        def scatter(start: int, stop: int) -> tuple[Tensor]:
            e = self.scratch(heads, self.block, latents)
            s = self.scratch(heads, self.block, latents)
            left = self.q.new_ones(self.block, heads, 2 * width + 2)
            grad_q = self.q.new_zeros(heads, width, latents)
            for rows in self.blocks(start, stop):
                block = self.exponentials(rows, e)
                n = rows.stop - rows.start
                scaled = (r[rows] @ self.spread).mul_(g[rows])
                left[:n, :, :width] = scaled.unflatten(1, (heads, width))
                left[:n, :, width:-2] = self.v[:, rows].transpose(0, 1)
                left[:n, :, -2] = scaled.mul_(y[rows]) @ negative_sum
                grad_s = torch.bmm(left[:n].transpose(0, 1), right, out=s[:, :n])
                grad_s.mul_(block)
                torch.bmm(block, grad_z, out=grad_v[rows].transpose(0, 1))
                torch.bmm(grad_s, self.scaled_q, out=grad_k[rows].transpose(0, 1))
                grad_q.baddbmm_(self.k[:, rows].mT, grad_s)
            return (grad_q,)

        (grad_q,) = self.over_points(scatter)
        return self.scale * grad_q.mT


class _Tied(torch.autograd.Function):
    """The kernel, graph by graph; its backward falls back to the twin for more."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        graphs, heads, points, width = k.shape
        y = k.new_empty(graphs, points, heads, width)
        r = k.new_empty(graphs, points, heads)
        states, kept = [], []
        for i in range(graphs):
            kernel = _Kernel(q[i], k[i].transpose(0, 1), v[i].transpose(0, 1), scale)
            states.append(kernel.forward(y[i], r[i]))
            kept.append(kernel.kept)
        z, weight = (torch.stack(parts) for parts in zip(*states, strict=True))
        y = y.transpose(1, 2)
        # Nothing but saved tensors: checkpointing then frees all of it.
        ctx.save_for_backward(q, k, v, y, r, z, weight, *kept)
        ctx.scale = scale
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, y, r, z, weight, *kept = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():

            def again(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                return twin(q, k, v, ctx.scale)

            return *differentiable_gradients(again, (q, k, v), wanted, grads[0]), None
        k, v, y = k.transpose(1, 2), v.transpose(1, 2), y.transpose(1, 2)
        g = grads[0].transpose(1, 2).contiguous()  # [B, N, H, D]
        grad_q, grad_k, grad_v = (torch.empty_like(t) for t in (q, g, g))
        for i, e in enumerate(kept):
            kernel = _Kernel(q[i], k[i], v[i], ctx.scale, e)
            grad_q[i] = kernel.backward(
                g[i], y[i], r[i], z[i], weight[i], grad_k[i], grad_v[i]
            )
        return grad_q, grad_k.transpose(1, 2), grad_v.transpose(1, 2), None


def tied_attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """FLARE attention by shared exponentials; `in_range` must hold.

    Args:
        q: Latent queries.
        k: Keys of the points, at least one.
        v: Values of the points, as wide as the keys.
        scale: Factor on the scores.

    Shapes:
        - `q`: $[B, H, M, D]$
        - `k`, `v`: $[B, H, N, D]$

    Returns:
        $[B, H, N, D]$. May be differentiated any number of times.
    """
    out: Tensor = _Tied.apply(q, k, v, scale)  # type: ignore[no-untyped-call]
    return out
