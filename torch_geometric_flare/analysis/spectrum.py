r"""Spectra of the operators that mix points, in $O(M^2 N + M^3)$.

An operator $W = W_\text{dec} W_\text{enc}$ of rank $M$ has the eigenvalues of the $M
\times M$ matrix $G = W_\text{enc} W_\text{dec}$ and zeros. $G$ is the encoding of the
scatter weights as values, that is, a mergeable state. Like the operator itself, it can
be computed in chunks, over processes and with weights of points.

If the first softmax has the log-sum-exps $\ell$, then $e^{(\ell_m - \ell_{m'}) / 2}\,
G_{mm'}$ is symmetric and positive semidefinite. The eigenvalues are therefore real, in
$[0, 1]$, and accurate.

Source:
    [arXiv 2508.12594](https://arxiv.org/abs/2508.12594), spectral analysis.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from torch_geometric_flare.functional import (
    PointBatch,
    SoftmaxState,
    SumState,
    distributed_merge,
    ragged_flare_encode,
    ragged_flare_weights,
    ragged_sum_encode,
)
from torch_geometric_flare.nn import (
    Backbone,
    FLAREConv,
    FLAREPPConv,
    PhysicsAttention,
    ResidualBlock,
)
from torch_geometric_flare.nn.checks import check_conditions, check_positive
from torch_geometric_flare.nn.layout import Batch, point_layout
from torch_geometric_flare.nn.streaming.chunks import (
    decode_in_chunks,
    encode_in_chunks,
    map_points,
    run_in_chunks,
)

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Latents = tuple[Tensor, ...]


class Spectrum(NamedTuple):
    """Eigenvalues and eigenvectors of the operators of one layer.

    Attributes:
        values: Eigenvalues in descending order, $[B, H, M]$ in float64: one spectrum
            per graph and head.
        vectors: Eigenvectors at the points, $[N, H, K]$, of the first $K$ eigenvalues
            of the point's graph, scaled to at most one; `None` without eigenvectors.
    """

    values: Tensor
    vectors: Tensor | None = None


@torch.no_grad()
def spectrum(
    conv: nn.Module,
    x: Tensor,
    batch: Batch = None,
    batch_size: int | None = None,
    *,
    weight: Tensor | None = None,
    chunk_size: int | None = None,
    group: "ProcessGroup | None" = None,
    num_vectors: int = 0,
) -> Spectrum:
    r"""Return the spectrum of the operator of each graph and head.

    Args:
        conv: A `FLAREConv`, `FLAREPPConv` or `PhysicsAttention`. In `PhysicsAttention`,
            slices attend to each other, so the operator is not symmetric: its
            eigenvalues are complex in general, and their absolute values are returned.
        x: Features of the points, the input of `conv`.
        batch: Graph of each point, sorted; `None` for a single graph; or the layout.
        batch_size: Number of graphs. Pass it if trailing graphs may be empty.
        weight: Weight of each point.
        chunk_size: Number of points to process at a time; `None` for all at once.
        group: Process group over which the points of these graphs are distributed.
        num_vectors: Number of eigenvectors to return, only for `FLAREConv` and
            `FLAREPPConv`.

    Shapes:
        - `x`: $[N, C]$
        - `batch`, `weight`: $[N]$

    Raises:
        TypeError: If `conv` is another module.
        ValueError: See the forward of `conv`; also if `conv` has `latent_blocks`, so
            that it is not a linear map of the values, or `num_vectors` is above the
            number of latents or nonzero for `PhysicsAttention`, or `x` or a parameter
            is not finite.

    Examples:
        >>> conv = FLAREConv(16, heads=4, num_latents=8)
        >>> spectrum(conv, torch.randn(100, 16)).values.shape
        torch.Size([1, 4, 8])
    """
    if not isinstance(conv, FLAREConv | FLAREPPConv | PhysicsAttention):
        raise TypeError(
            f"conv is a {type(conv).__name__}, expected FLAREConv, FLAREPPConv or "
            "PhysicsAttention"
        )
    if getattr(conv, "latent_blocks", 0):
        raise ValueError(
            f"conv has latent_blocks={conv.latent_blocks}: with attention among the "
            "latents, it is not a linear map of the values and has no eigenvalues"
        )
    most = 0 if isinstance(conv, PhysicsAttention) else conv.num_latents
    if not 0 <= num_vectors <= most:
        raise ValueError(
            f"num_vectors is {num_vectors}, expected at most {most} for this "
            f"{type(conv).__name__}"
        )
    layout = point_layout(conv, x, batch, batch_size, group, weight)
    rows = layout.unsort(x) if layout is batch else x

    def encode(stage: nn.Module, latents: Latents) -> Any:
        if chunk_size is None:
            state = stage.encode_rows(layout.sort(rows), layout, latents)  # type: ignore[operator]
            return distributed_merge(state, group)
        return encode_in_chunks(stage, rows, layout, chunk_size, group, latents)

    if isinstance(conv, PhysicsAttention):
        attention = conv.slice_attention(conv.tokens(encode(conv, ()))).double()
        pooled = conv.tokens(encode(_Overlap(conv), ()), torch.float64)
        matrix = attention @ pooled
        _check_finite(matrix)
        sizes = torch.linalg.eigvals(matrix).abs()
        return Spectrum(sizes.sort(descending=True).values)
    latents: Latents = ()
    for _ in range(conv.num_encodes - 1):
        latents = conv.process(encode(conv, latents), latents)
    overlap = encode(_Overlap(conv), latents)
    values, vectors = _symmetric(overlap)
    if num_vectors == 0:
        return Spectrum(values)
    chosen = vectors[..., :num_vectors]  # [B, H, M, K]
    decoder = _Decoder(conv)
    tensors = (*latents, chosen.to(x.dtype))
    if chunk_size is None:
        at_points = layout.unsort(
            decoder.decode_rows(tensors, layout.sort(rows), layout)
        )
    else:
        at_points = decode_in_chunks(decoder, tensors, rows, layout, chunk_size)
    return Spectrum(values, layout.sort(at_points) if layout is batch else at_points)


class _Overlap(nn.Module):
    """Encodes the scatter weights of an operator as values."""

    def __init__(self, conv: Any) -> None:
        super().__init__()
        self.conv = conv

    def encode_rows(
        self, x: Tensor, layout: PointBatch, latents: Latents = ()
    ) -> SoftmaxState | SumState:
        """Return the state of the overlap of latents, $[B, H, M, M]$."""
        if isinstance(self.conv, PhysicsAttention):
            shares = self.conv.slice_weights(self.conv._split_heads(self.conv.point(x)))
            return ragged_sum_encode(shares, shares, layout)
        q, k = self.conv.queries_and_keys(x, latents, layout.u)
        scale = self.conv.score_scale
        _, scatter = ragged_flare_weights(q, k, layout, scale=scale)
        return ragged_flare_encode(q, k, scatter, layout, scale=scale)


class _Decoder(nn.Module):
    """Decodes other values of latents than those of the operator."""

    def __init__(self, conv: Any) -> None:
        super().__init__()
        self.conv = conv

    def decode_rows(self, latents: Latents, x: Tensor, layout: PointBatch) -> Tensor:
        """Return the values at points, $[N, H, K]$."""
        *queries, values = latents
        q, k = self.conv.queries_and_keys(x, tuple(queries), layout.u)
        _, scatter = ragged_flare_weights(q, k, layout, scale=self.conv.score_scale)
        blocks = [
            torch.einsum("bnhm,bhmk->bnhk", shares, values[list(dense.graphs)])
            for dense, shares in zip(
                layout.dense_batches, layout.split(scatter), strict=True
            )
        ]
        return layout.join(blocks)


def _symmetric(overlap: SoftmaxState) -> tuple[Tensor, Tensor]:
    """Return eigenvalues and eigenvectors of the overlap, in descending order.

    The largest entry of an eigenvector is one in absolute value.
    """
    matrix, lse = overlap.value.double(), overlap.lse.double()
    _check_finite(matrix)
    # A graph without points gets eigenvalues of zero.
    lse = torch.where(lse == -torch.inf, 0.0, lse)
    half = (lse - lse.mean(-1, keepdim=True)) / 2
    # Both entries of a pair of latents hold the same number. Scaling decreases one and
    # increases the other, which overflows for large scores, so the first is used for
    # both.
    exponent = half[..., None] - half[..., None, :]
    larger = torch.where(exponent < 0, matrix, matrix.mT)
    larger = torch.where(exponent == 0, (matrix + matrix.mT) / 2, larger)
    values, vectors = torch.linalg.eigh((-exponent.abs()).exp() * larger)
    logs = vectors.abs().log() - half[..., None]
    vectors = vectors.sign() * (logs - logs.amax(-2, keepdim=True)).exp()
    return values.flip(-1), vectors.flip(-1)


def _check_finite(matrix: Tensor) -> None:
    if not matrix.isfinite().all():
        raise ValueError(
            "the operator has no spectrum: x or the parameters are not finite, or "
            "scores overflow"
        )


@torch.no_grad()
def spectra(
    model: nn.Module,
    x: Tensor,
    batch: Batch = None,
    batch_size: int | None = None,
    *,
    weight: Tensor | None = None,
    u: Tensor | None = None,
    chunk_size: int | None = None,
    group: "ProcessGroup | None" = None,
    num_vectors: int = 0,
) -> list[Spectrum]:
    """Return the spectra of all blocks of a network.

    Args:
        model: A network of residual blocks around an operator that `spectrum` supports:
            `FLARE`, `FLAREPP` or `Transolver`. For a surrogate, pass its `model` and
            the `x` and `u` of `surrogate.model_arguments(data)`.
        x: Features of the points, the input of `model`.
        batch: Graph of each point, sorted; `None` for a single graph.
        batch_size: Number of graphs. Pass it if trailing graphs may be empty.
        weight: Weight of each point.
        u: Conditions of each graph, if `model` has any.
        chunk_size: Number of points to process at a time; `None` for all at once.
        group: Process group over which the points of these graphs are distributed.
        num_vectors: Number of eigenvectors to return.

    Shapes:
        - `x`: $[N, C]$
        - `batch`, `weight`: $[N]$
        - `u`: $[B, G]$

    Returns:
        The spectrum of each block.

    Raises:
        TypeError: If `model` is another network.
        ValueError: See the forward of `model` and `spectrum`.
    """
    if hasattr(model, "model_arguments"):
        raise TypeError(
            f"model is a {type(model).__name__}: pass its `model`, and the x, u, batch "
            "and weight of model_arguments(data)"
        )
    blocks: Sequence[Any] = list(getattr(model, "blocks", ()))
    if not isinstance(model, Backbone) or not all(
        isinstance(block, ResidualBlock) for block in blocks
    ):
        raise TypeError(
            f"model is a {type(model).__name__}, expected a network of residual "
            "blocks, such as FLARE, FLAREPP or Transolver"
        )
    layout = point_layout(model, x, batch, batch_size, group, weight, u)
    check_conditions(model, layout.u)
    rows = layout.unsort(x) if layout is batch else x
    check_positive(chunk_size=chunk_size)
    size = chunk_size or max(1, len(rows))
    rows = map_points(model.lift, model.input_rows(rows, layout), size)
    results = []
    for block in blocks:
        norm_arguments = (layout,) if block.condition_channels else ()
        mixer_input = block.mixer_norm(layout.sort(rows), *norm_arguments)
        result = spectrum(
            block.mixer,
            mixer_input,
            layout,
            chunk_size=chunk_size,
            group=group,
            num_vectors=num_vectors,
        )
        if result.vectors is not None and layout is not batch:
            result = result._replace(vectors=layout.unsort(result.vectors))
        results.append(result)
        rows = run_in_chunks(block, rows, layout, size, group)
    return results
