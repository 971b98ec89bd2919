r"""The kernels over points that FLARE attention on a CPU is made of.

With $E = \exp(s\,KQ^\top)$, $[N, M]$ for each head and never in memory, `gather` sums
over the points, `scatter` over the latents, and `gradients` is the backward of either
or of both. Latents come multiplied by $s \log_2 e$: $E = 2^{K\hat Q^\top}$.

All of them go by addresses, so each compares shape, dtype and strides of every tensor
first: nothing behind it can.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from torch_geometric_flare.kernels.shared_scores_code import (
    gather_code,
    gradients_code,
    scatter_code,
)
from torch_geometric_flare.kernels.tasks import WIDEST_VECTOR, RowTasks


class Scattered(NamedTuple):
    """What decoding keeps for its backward; `y` and `g` are $[N, H, D]$.

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
    r"""What encoding keeps for its backward.

    Args:
        v: Values, $[N, H, D]$.
        grad: Gradient of the sums $E^\top V$, $[B, H, M, D]$.
        offset: Gradient of the sums $E^\top 1$, $[B, H, M]$.
    """

    v: Tensor
    grad: Tensor
    offset: Tensor


def gather(
    q: Tensor, k: Tensor, v: Tensor, tasks: RowTasks, r: Tensor | None = None
) -> Tensor:
    r"""Sum over the points of each graph, $E^\top [V\;1]$, or $E^\top (r \circ V)$.

    Args:
        q: Latents of each graph, or of all.
        k: Keys.
        v: Values.
        tasks: The graphs.
        r: A weight of each point, from `scatter`.

    Shapes:
        - `q`: $[B, H, M, D]$ or $[1, H, M, D]$
        - `k`, `v`: $[N, H, D]$, contiguous in the last dimension

    Returns:
        $[B, H, D + 1, M]$, or $[B, H, D, M]$ with weights.

    Raises:
        ValueError: If a tensor does not fit.
    """
    _, heads, latents, width = q.shape
    _check(tasks, k.dtype, heads, width, rows=(k, v), latents=(q,), r=r)
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


def scatter(q: Tensor, k: Tensor, z: Tensor, y: Tensor, tasks: RowTasks) -> Tensor:
    r"""Average over the latents of each graph, $r \circ EZ$ with $r = 1 / E1$.

    Args:
        q: Latents of each graph, or of all.
        k: Keys.
        z: Latent values of each graph.
        y: Where to write the averages.
        tasks: The graphs.

    Shapes:
        - `q`: $[B, H, M, D]$ or $[1, H, M, D]$
        - `z`: $[B, H, M, D]$
        - `k`, `y`: $[N, H, D]$, contiguous in the last dimension

    Returns:
        r, $[H, N']$ with $N'$ a little more than $N$; `tasks` knows its columns.

    Raises:
        ValueError: If a tensor does not fit.
    """
    _, heads, latents, width = q.shape
    q, z = q.contiguous(), z.resolve_neg().contiguous()
    _check(tasks, k.dtype, heads, width, rows=(k, y), latents=(q,), values=(z,))
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
    tasks: RowTasks,
    encoded: tuple[Gathered, Tensor] | None = None,
    decoded: Scattered | None = None,
) -> Tensor:
    r"""Return gradients of encoding, of decoding, or of both with the same scores.

    $\partial S = E \circ (Y' Z^\top - \langle Y', Y\rangle + V Z'^\top + o)$ with
    $Y' = r \circ g$, $Z'$ the gradient of $E^\top V$ and $o$ that of $E^\top 1$.

    Args:
        q: Latents of each graph, or of all.
        k: Keys.
        grad_k: Where to write the gradient of the keys.
        tasks: The graphs.
        encoded: What encoding kept, and where to write the gradient of the values.
        decoded: What decoding kept.

    Shapes:
        - `q`: $[B, H, M, D]$ or $[1, H, M, D]$
        - `k`, `grad_k`: $[N, H, D]$, contiguous in the last dimension

    Returns:
        $\partial S^\top K$, $[B, H, M, D]$: times the scale, the gradient of each
        graph's latents.

    Raises:
        ValueError: If a tensor does not fit.
    """
    _, heads, latents, width = q.shape
    nothing = k.new_empty(0, 0, 0)
    g = y = r = v = grad_v = z = grad = offset = nothing
    rows, values, sums = [k, grad_k], [], []
    if decoded is not None:
        g, y, r, z = decoded
        rows += [g, y]
        values += [z]
    if encoded is not None:
        (v, grad, offset), grad_v = encoded
        rows += [v, grad_v]
        values += [grad]
        sums += [offset]
    _check(
        tasks,
        k.dtype,
        heads,
        width,
        rows=rows,
        latents=(q,),
        values=values,
        sums=sums,
        r=None if decoded is None else r,
    )
    if decoded is not None:
        z = _padded(z, k.dtype)
    if encoded is not None:
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


def _check(
    tasks: RowTasks,
    dtype: torch.dtype,
    heads: int,
    width: int,
    *,
    rows: Sequence[Tensor],
    latents: Sequence[Tensor],
    values: Sequence[Tensor] = (),
    sums: Sequence[Tensor] = (),
    r: Tensor | None = None,
) -> None:
    """Refuse whatever the code behind the addresses would read or write wrongly."""
    num_graphs, num_latents = len(tasks.sizes), latents[0].size(2)
    one_each = (num_graphs, heads, num_latents, width)
    for t in rows:
        strided = width == 1 or t.stride(-1) == 1
        if t.dtype != dtype or t.shape != (tasks.num_rows, heads, width) or not strided:
            _refuse(t, dtype, (tasks.num_rows, heads, width))
    for t in latents:
        if t.dtype != dtype or (t.shape != one_each and t.shape != (1, *one_each[1:])):
            _refuse(t, dtype, one_each)
    for t in values:
        if t.dtype != dtype or t.shape != one_each:
            _refuse(t, dtype, one_each)
    for t in sums:
        if t.dtype != dtype or t.shape != one_each[:3]:
            _refuse(t, dtype, one_each[:3])
    if r is not None and (
        r.dtype != dtype
        or r.shape != (heads, tasks.num_columns)
        or not r.is_contiguous()
    ):
        _refuse(r, dtype, (heads, tasks.num_columns))


def _refuse(t: Tensor, dtype: torch.dtype, expected: tuple[int, ...]) -> None:
    raise ValueError(
        f"a tensor is {t.dtype} of shape {tuple(t.shape)} with strides {t.stride()}, "
        f"expected {dtype} of shape {expected}: it was changed between forward and "
        "backward, or by a hook on saved tensors"
    )


def _graph_stride(latents: Tensor) -> int:
    """Return how many numbers lie between the latents of two graphs."""
    return latents.stride(0) if latents.size(0) > 1 else 0


def _padded(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Pad latents [*, H, M, *] to whole vectors, of any processor."""
    lanes = WIDEST_VECTOR // dtype.itemsize
    return pad(rows, (0, 0, 0, -rows.size(-2) % lanes)).contiguous()
