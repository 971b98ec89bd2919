r"""The CPU kernels of FLARE attention.

The scores $S = K\hat Q^\top$, $[N, M]$ for each head, are never stored in memory.
`gather` averages over the points with weights $2^S$, optionally times a weight per
point, `scatter` averages over the latents, and `gradients` is the backward of one or
both. Latents are already multiplied by $s \log_2 e$, so that scores are exponents of
two. Forward subtracts running maxima and backward the logarithms of the sums, so no
exponential exceeds one for any finite scores.

The kernels take raw pointers, so each function first validates shape, dtype and strides
of every tensor.
"""

import math
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
    r"""The tensors that the backward of decoding needs.

    Args:
        g: Gradient of the output, $[N, H, D]$.
        y: The output, $[N, H, D]$.
        log: $L_n = \log_2 \sum_m 2^{S_{nm}}$, from `scatter`.
        z: Latent values of each graph, $[B, H, M, D]$.
    """

    g: Tensor
    y: Tensor
    log: Tensor
    z: Tensor


class Gathered(NamedTuple):
    r"""The tensors that the backward of encoding needs.

    Args:
        v: Values, $[N, H, D]$.
        grad: $Z'$, gradient of the means over points, $[B, H, M, D]$.
        offset: $o$, the term added to the gradient of every score before it is
            multiplied by the point's share, $[B, H, M]$.
        log: $G_m$, from `gather`, $[B, H, M]$.
        log_weight: The argument of `gather`.
    """

    v: Tensor
    grad: Tensor
    offset: Tensor
    log: Tensor
    log_weight: Tensor | None = None


def gather(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    tasks: RowTasks,
    log_weight: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Average over the points of each graph.

    Args:
        q: Latents of each graph, or shared latents.
        k: Keys.
        v: Values.
        tasks: The graphs.
        log_weight: $\ln 2\, w_n$, the natural logarithm of each point's weight. With
            `None`, all weights are one.

    Shapes:
        - `q`: $[B, H, M, D]$ or $[1, H, M, D]$
        - `k`, `v`: $[N, H, D]$, contiguous in the last dimension
        - `log_weight`: $[N]$

    Returns:
        The means $Z_m = \sum_n 2^{S_{nm} + w_n - G_m} v_n$, $[B, H, M, D]$, and
        $G_m = \log_2 \sum_n 2^{S_{nm} + w_n}$, $[B, H, M]$. A graph without points, or
        with only zero weights, has means of zero and logarithms of $-\infty$.

    Raises:
        ValueError: If a tensor has the wrong shape, dtype or strides.
    """
    totals = _gather(q, k, v, tasks, None, log_weight)
    sums, top = tasks.merge(totals[:, :, :-1], totals[:, :, -1])
    latents = q.size(2)
    sums, top = sums[..., :latents], top[..., :latents]
    weight = sums[:, :, -1].contiguous()
    means = sums[:, :, :-1] / weight.masked_fill(weight == 0, 1.0).unsqueeze(2)
    return means.mT.contiguous(), top + weight.log2()


def gather_shares(
    q: Tensor, k: Tensor, v: Tensor, tasks: RowTasks, log: Tensor
) -> Tensor:
    r"""Sum values over the points of each graph, weighted by their shares.

    Args:
        q: Latents of each graph, or shared latents.
        k: Keys.
        v: Values.
        tasks: The graphs.
        log: $L_n$, from `scatter`.

    Shapes:
        - `q`: $[B, H, M, D]$ or $[1, H, M, D]$
        - `k`, `v`: $[N, H, D]$, contiguous in the last dimension

    Returns:
        $\sum_n 2^{S_{nm} - L_n} v_n$, $[B, H, M, D]$.

    Raises:
        ValueError: If a tensor has the wrong shape, dtype or strides.
    """
    totals = tasks.by_graph(_gather(q, k, v, tasks, log))
    # Contiguous, so that PyTorch's order of summation does not depend on the batch.
    return totals[..., : q.size(2)].mT.contiguous()


def _gather(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    tasks: RowTasks,
    log: Tensor | None,
    log_weight: Tensor | None = None,
) -> Tensor:
    """Return each task's sums of values and weights and maxima, or sums by shares."""
    _, heads, _, width = q.shape
    _check(tasks, k.dtype, heads, width, rows=(k, v), latents=(q,), log=log)
    columns = _padded(q, k.dtype).mT.contiguous()  # [*, H, D, M']
    weights = None
    if log_weight is not None:
        weights = _padded_weights(log_weight, tasks, k.dtype)
    run = gather_code(width, k.dtype, log is not None, weights is not None)
    rows = width if log is not None else width + 2
    totals = k.new_zeros(tasks.table.size(0), heads, rows, columns.size(-1))
    if log is None:
        totals[:, :, -1] = torch.finfo(k.dtype).min
    run(
        tasks.table,
        tasks.threads(q),
        k.data_ptr(),
        v.data_ptr(),
        0 if log is None else log.data_ptr(),
        0 if weights is None else weights.data_ptr(),
        columns.data_ptr(),
        totals.data_ptr(),
        heads,
        columns.size(-1),
        *k.stride()[:2],
        *v.stride()[:2],
        0 if log is None else log.stride(0),
        columns.stride(0) if columns.size(0) > 1 else 0,
    )
    return totals


def scatter(q: Tensor, k: Tensor, z: Tensor, y: Tensor, tasks: RowTasks) -> Tensor:
    r"""Average over the latents of each graph, $y_n = \sum_m 2^{S_{nm} - L_n} z_m$.

    Args:
        q: Latents of each graph, or shared latents.
        k: Keys.
        z: Latent values of each graph.
        y: Output tensor for the averages.
        tasks: The graphs.

    Shapes:
        - `q`: $[B, H, M, D]$ or $[1, H, M, D]$
        - `z`: $[B, H, M, D]$
        - `k`, `y`: $[N, H, D]$, contiguous in the last dimension

    Returns:
        $L_n = \log_2 \sum_m 2^{S_{nm}}$, $[H, N']$, with $N'$ slightly larger than $N$
        and columns as in `tasks`.

    Raises:
        ValueError: If a tensor has the wrong shape, dtype or strides.
    """
    _, heads, latents, width = q.shape
    q, z = q.contiguous(), z.resolve_neg().contiguous()
    _check(tasks, k.dtype, heads, width, rows=(k, y), latents=(q,), values=(z,))
    # The kernel does not write the columns between graphs.
    top = k.new_zeros(heads, tasks.num_columns)
    weight = torch.ones_like(top)
    run = scatter_code(width, k.dtype)
    run(
        tasks.table,
        tasks.threads(q),
        k.data_ptr(),
        q.data_ptr(),
        z.data_ptr(),
        y.data_ptr(),
        top.data_ptr(),
        weight.data_ptr(),
        heads,
        latents,
        *k.stride()[:2],
        *y.stride()[:2],
        top.stride(0),
        q.stride(0) if q.size(0) > 1 else 0,
    )
    return weight.log2_().add_(top)


def gradients(
    q: Tensor,
    k: Tensor,
    grad_k: Tensor,
    tasks: RowTasks,
    encoded: tuple[Gathered, Tensor] | None = None,
    decoded: Scattered | None = None,
) -> Tensor:
    r"""Return the gradients of encoding, decoding, or both with the same scores.

    $\partial S = B \circ (g Z^\top - \langle g, Y\rangle) + A \circ (V Z'^\top + o)$
    with the shares $B_{nm} = 2^{S_{nm} - L_n}$ and $A_{nm} = 2^{S_{nm} + w_n - G_m}$.

    Args:
        q: Latents of each graph, or shared latents.
        k: Keys.
        grad_k: Output tensor for the gradient of the keys.
        tasks: The graphs.
        encoded: Saved tensors of encoding, and the output tensor for the gradient of
            the values.
        decoded: Saved tensors of decoding.

    Shapes:
        - `q`: $[B, H, M, D]$ or $[1, H, M, D]$
        - `k`, `grad_k`: $[N, H, D]$, contiguous in the last dimension

    Returns:
        $\partial S^\top K$, $[B, H, M, D]$. Multiplied by the scale, this is the
        gradient of each graph's latents.

    Raises:
        ValueError: If a tensor has the wrong shape, dtype or strides.
    """
    _, heads, latents, width = q.shape
    empty = k.new_empty(0, 0, 0)
    g = y = log = v = grad_v = z = grad = offset = log_total = empty
    weights = None
    rows, values, sums = [k, grad_k], [], []
    if decoded is not None:
        g, y, log, z = decoded
        rows += [g, y]
        values += [z]
    if encoded is not None:
        (v, grad, offset, log_total, log_weight), grad_v = encoded
        if log_weight is not None:
            weights = _padded_weights(log_weight, tasks, k.dtype)
        rows += [v, grad_v]
        values += [grad]
        sums += [offset, log_total]
    _check(
        tasks,
        k.dtype,
        heads,
        width,
        rows=rows,
        latents=(q,),
        values=values,
        sums=sums,
        log=None if decoded is None else log,
    )
    if decoded is not None:
        z = _padded(z, k.dtype)
    if encoded is not None:
        grad = _padded(grad, k.dtype)
        # Clamp the -inf of empty graphs: a difference of infinities would be NaN.
        log_total = log_total.clamp_min(torch.finfo(k.dtype).min)
        offset, log_total = (
            _padded(t.unsqueeze(-1), k.dtype) for t in (offset, log_total)
        )
    q = _padded(q, k.dtype)
    run = gradients_code(
        width,
        k.dtype,
        encoded is not None,
        decoded is not None,
        weights is not None,
    )
    totals = k.new_zeros(tasks.table.size(0), heads, width, q.size(2))
    w = empty if weights is None else weights
    inputs = k, v, g, y, log, w, q, z, grad, offset, log_total
    pointers = *inputs, totals, grad_k, grad_v
    strided = k, v, g, y, grad_k, grad_v
    run(
        tasks.table,
        tasks.threads(q),
        *(t.data_ptr() for t in pointers),
        heads,
        q.size(2),
        *(step for t in strided for step in t.stride()[:2]),
        log.stride(0),
        q.stride(0) if q.size(0) > 1 else 0,
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
    log: Tensor | None = None,
) -> None:
    """Validate the tensors, because the kernels take raw pointers."""
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
    if log is not None and (
        log.dtype != dtype
        or log.shape != (heads, tasks.num_columns)
        or not log.is_contiguous()
    ):
        _refuse(log, dtype, (heads, tasks.num_columns))


def _refuse(t: Tensor, dtype: torch.dtype, expected: tuple[int, ...]) -> None:
    raise ValueError(
        f"a tensor is {t.dtype} of shape {tuple(t.shape)} with strides {t.stride()}, "
        f"expected {dtype} of shape {expected}: it was modified between forward and "
        "backward or by a saved-tensor hook"
    )


def _padded_weights(log_weight: Tensor, tasks: RowTasks, dtype: torch.dtype) -> Tensor:
    """Return base-2 logarithms, padded because a vector may start at any row."""
    if log_weight.shape != (tasks.num_rows,):
        _refuse(log_weight, dtype, (tasks.num_rows,))
    logarithms = (log_weight * math.log2(math.e)).to(dtype)
    return pad(logarithms, (0, WIDEST_VECTOR // dtype.itemsize)).contiguous()


def _padded(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Pad latents [*, H, M, *] to whole vectors of any processor."""
    lanes = WIDEST_VECTOR // dtype.itemsize
    return pad(rows, (0, 0, 0, -rows.size(-2) % lanes)).contiguous()
