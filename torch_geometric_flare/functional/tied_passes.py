r"""The passes over the points that FLARE attention on a CPU is made of.

With $E = \exp(s\,KQ^\top)$, $[N, M]$ for each head and never in memory, `gather` sums
over the points, `scatter` over the latents, and `gradients` is the backward of either
or of both. Latents come with $s \log_2 e$ applied: $E = 2^{K\hat Q^\top}$.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from torch_geometric_flare.functional.llvm import lanes
from torch_geometric_flare.functional.tasks import Tasks
from torch_geometric_flare.functional.tied_code import (
    gather_code,
    gradients_code,
    scatter_code,
)


class Scattered(NamedTuple):
    """What decoding leaves for its backward; `y` and `g` are $[N, H, D]$.

    Args:
        g: Gradient of the output.
        y: The output.
        r: Reciprocals of the sums over latents, from `scatter`.
        z: Latent values of each graph, $[B, H, M, D]$.
    """

    g: Tensor
    y: Tensor
    r: Tensor
    z: Tensor


class Gathered(NamedTuple):
    r"""What encoding leaves for its backward.

    Args:
        v: Values, $[N, H, D]$.
        grad: Gradient of the sums $E^\top V$, $[B, H, M, D]$.
        offset: Gradient of the sums $E^\top 1$, $[B, H, M]$.
    """

    v: Tensor
    grad: Tensor
    offset: Tensor


def gather(
    q: Tensor, k: Tensor, v: Tensor, tasks: Tasks, r: Tensor | None = None
) -> Tensor:
    r"""Sums over the points of each graph, $E^\top [V\;1]$, or $E^\top (r \circ V)$.

    Args:
        q: Latents of each graph, or of all.
        k: Keys.
        v: Values.
        tasks: The graphs.
        r: A weight of each point, from `scatter`.

    Shapes:
        - `q`: $[B, H, M, D]$ or $[1, H, M, D]$
        - `k`, `v`: $[N, H, D]$, numbers of a head side by side

    Returns:
        $[B, H, D + 1, M]$, or $[B, H, D, M]$ with weights.
    """
    _, heads, latents, width = q.shape
    columns = _padded(q, k.dtype).mT.contiguous()  # [*, H, D, M']
    run = gather_code(width, k.dtype, r is not None)
    rows = width if r is not None else width + 1
    totals = k.new_zeros(tasks.table.size(0), heads, rows, columns.size(-1))
    run(
        tasks.table,
        tasks.threads(q),
        k.data_ptr(),
        v.data_ptr(),
        0 if r is None else r.data_ptr(),
        columns.data_ptr(),
        totals.data_ptr(),
        heads,
        columns.size(-1),
        *k.stride()[:2],
        *v.stride()[:2],
        0 if r is None else r.stride(0),
        _graph_stride(columns),
    )
    return tasks.by_graph(totals)[..., :latents]


def scatter(q: Tensor, k: Tensor, z: Tensor, y: Tensor, tasks: Tasks) -> Tensor:
    r"""Averages over the latents of each graph, $r \circ EZ$ with $r = 1 / E1$.

    Args:
        q: Latents of each graph, or of all.
        k: Keys.
        z: Latent values of each graph.
        y: Where to write the averages.
        tasks: The graphs.

    Shapes:
        - `q`: $[B, H, M, D]$ or $[1, H, M, D]$
        - `z`: $[B, H, M, D]$
        - `k`, `y`: $[N, H, D]$, numbers of a head side by side

    Returns:
        r, $[H, N']$ with $N'$ a little more than $N$; `tasks` has its columns.
    """
    _, heads, latents, width = q.shape
    q, z = q.contiguous(), z.resolve_neg().contiguous()
    r = k.new_empty(heads, tasks.num_columns)
    run = scatter_code(width, k.dtype)
    run(
        tasks.table,
        tasks.threads(q),
        k.data_ptr(),
        q.data_ptr(),
        z.data_ptr(),
        y.data_ptr(),
        r.data_ptr(),
        heads,
        latents,
        *k.stride()[:2],
        *y.stride()[:2],
        r.stride(0),
        _graph_stride(q),
    )
    return r


def gradients(
    q: Tensor,
    k: Tensor,
    grad_k: Tensor,
    tasks: Tasks,
    encoded: tuple[Gathered, Tensor] | None = None,
    decoded: Scattered | None = None,
) -> Tensor:
    r"""Gradients of encoding, of decoding, or of both with the same scores.

    $\partial S = E \circ (Y' Z^\top - \langle Y', Y\rangle + V Z'^\top + o)$ with
    $Y' = r \circ g$, $Z'$ the gradient of $E^\top V$ and $o$ that of $E^\top 1$.

    Args:
        q: Latents of each graph, or of all.
        k: Keys.
        grad_k: Where to write the gradient of the keys.
        tasks: The graphs.
        encoded: What encoding left, and where to write the gradient of the values.
        decoded: What decoding left.

    Shapes:
        - `q`: $[B, H, M, D]$ or $[1, H, M, D]$
        - `k`, `grad_k`: $[N, H, D]$, numbers of a head side by side

    Returns:
        $\partial S^\top K$, $[B, H, M, D]$: times the scale, the gradient of each
        graph's latents.
    """
    _, heads, latents, width = q.shape
    nothing = k.new_empty(0, 0, 0)
    g = y = r = v = grad_v = z = grad = offset = nothing
    if decoded is not None:
        g, y, r, z = decoded
        z = _padded(z, k.dtype)
    if encoded is not None:
        (v, grad, offset), grad_v = encoded
        grad, offset = (_padded(t, k.dtype) for t in (grad, offset.unsqueeze(-1)))
    q = _padded(q, k.dtype)
    run = gradients_code(width, k.dtype, encoded is not None, decoded is not None)
    totals = k.new_zeros(tasks.table.size(0), heads, width, q.size(2))
    pointers = k, v, g, y, r, q, z, grad, offset, totals, grad_k, grad_v
    strided = k, v, g, y, grad_k, grad_v
    run(
        tasks.table,
        tasks.threads(q),
        *(t.data_ptr() for t in pointers),
        heads,
        q.size(2),
        *(step for t in strided for step in t.stride()[:2]),
        r.stride(0),
        _graph_stride(q),
    )
    return tasks.by_graph(totals)[..., :latents].mT


def _graph_stride(latents: Tensor) -> int:
    """Numbers from the latents of a graph to those of the next."""
    return latents.stride(0) if latents.size(0) > 1 else 0


def _padded(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Latents [*, H, M, *] up to whole vectors."""
    return pad(rows, (0, 0, 0, -rows.size(-2) % lanes(dtype))).contiguous()
