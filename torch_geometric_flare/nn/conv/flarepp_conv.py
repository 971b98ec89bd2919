"""FLARE++ as an operator on `x` and `batch`."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from torch_geometric_flare.functional import (
    PointBatch,
    SoftmaxState,
    distributed_merge,
    ragged_flare_attention,
    ragged_flare_decode,
    ragged_flare_encode,
    ragged_flare_weights,
)
from torch_geometric_flare.nn.checks import (
    check_heads,
    check_input_channels,
    check_positive,
)
from torch_geometric_flare.nn.dense.lazy import (
    UNKNOWN,
    after_loading,
    first_width,
    input_linear,
    input_width,
    materialise,
)
from torch_geometric_flare.nn.dense.residual_mlp import reset_linear
from torch_geometric_flare.nn.layout import Batch
from torch_geometric_flare.nn.mixer import PointMixer, Role
from torch_geometric_flare.nn.streaming.stage import (
    RECORD,
    Latents,
    record_state,
)

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class FLAREPPConv(PointMixer):
    r"""FLARE attention with queries computed from the points.

    From FLARE++, [arXiv 2608.11519](https://arxiv.org/abs/2608.11519). In each head,
    learned seeds $Q_0$ gather the points into $M$ dynamic queries, which are gated and
    added to learned latents $\bar Q$. The sums gather and scatter as in `FLAREConv`:

    $$C = \mathrm{LN}(W_0 x), \qquad
      Q_\text{dyn} = \mathrm{softmax}_N(s\,\mathrm{LN}(Q_0)\,C^\top)\,C, \qquad
      Q = \mathrm{LN}(\bar Q) + \sigma(g)\,Q_\text{dyn}$$

    $$K = \mathrm{LN}(W_k x), \quad V = W_v x, \qquad
      Z = \mathrm{softmax}_N(s\,QK^\top)V, \qquad
      Y = \mathrm{softmax}_M(s\,KQ^\top)Z, \qquad x' = W\,Y$$

    with $s = 1/\sqrt{D}$. Norms are over the head width. The norms of $Q_0$ and $K$ are
    affine, those of $C$ and $\bar Q$ are not. Points are encoded twice, so chunks or
    processes merge two states. The cost is $O(NM)$.

    Args:
        in_channels: Width of the input; -1 to take it from the first input.
        out_channels: Width of the output. Default: `in_channels`, if it is positive.
        heads: Number of attention heads $H$, each with a separate gate $g$.
        num_latents: Number of latents $M$ per head, the rank of the operator.
        head_channels: Width $D$ of a head. Default: `out_channels // heads`.
        bias: Whether the linear maps have a bias.
        chunk_size: Number of points to process at a time in forward and backward, with
            the same result; `None` for all at once. Can be set on an existing module.

    Shapes:
        - input: $[N, C_\text{in}]$, `batch` $[N]$
        - output: $[N, C_\text{out}]$

    Raises:
        ValueError: If a size is not positive, or `head_channels` is not given and
            `out_channels` is not divisible by `heads`. `encode` and `decode` always
            raise it, because a single state cannot hold both encodings.

    Examples:
        >>> conv = FLAREPPConv(16, heads=4, num_latents=32)
        >>> batch = torch.tensor([0] * 30 + [1] * 70)
        >>> conv(torch.randn(100, 16), batch).shape
        torch.Size([100, 16])
    """

    num_encodes = 2
    no_weight_decay = ("seeds", "latents", "gate")

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        heads: int = 8,
        num_latents: int = 64,
        head_channels: int | None = None,
        bias: bool = True,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        check_input_channels(in_channels)
        if out_channels is None:
            if in_channels == UNKNOWN:
                raise ValueError(
                    "out_channels is None, and in_channels=-1 gives no default: pass a "
                    "positive integer"
                )
            out_channels = in_channels
        check_positive(
            out_channels=out_channels,
            heads=heads,
            num_latents=num_latents,
            chunk_size=chunk_size,
        )
        if head_channels is None:
            head_channels = check_heads(out_channels, heads, "out_channels")
        check_positive(head_channels=head_channels)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.heads = heads
        self.num_latents = num_latents
        self.head_channels = head_channels
        self.bias = bias
        self.chunk_size = chunk_size

        width = heads * head_channels
        self.seeds = nn.Parameter(torch.empty(heads, num_latents, head_channels))
        self.latents = nn.Parameter(torch.empty(heads, num_latents, head_channels))
        self.gate = nn.Parameter(torch.empty(heads))
        self.seed_norm = nn.LayerNorm(head_channels)
        self.latent_norm = nn.LayerNorm(head_channels, elementwise_affine=False)
        self.context = input_linear(in_channels, width, bias)
        self.context_norm = nn.LayerNorm(head_channels, elementwise_affine=False)
        self.key = input_linear(in_channels, width, bias)
        self.key_norm = nn.LayerNorm(head_channels)
        self.value = input_linear(in_channels, width, bias)
        self.out = nn.Linear(width, out_channels, bias=bias)
        if in_channels == UNKNOWN:
            after_loading(self, _take_loaded_width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset parameters; the maps of the input start close to the identity."""
        nn.init.normal_(self.seeds, std=0.02)
        nn.init.normal_(self.latents, std=0.02)
        nn.init.constant_(self.gate, 0.25)
        for linear in (self.context, self.key, self.value):
            _reset_to_identity(linear)
        reset_linear(self.out)
        self.seed_norm.reset_parameters()
        self.key_norm.reset_parameters()

    @property
    def score_scale(self) -> float:
        """The scaling factor of the scores."""
        return float(self.head_channels**-0.5)

    def encode_rows(
        self, x: Tensor, layout: PointBatch, latents: Latents = ()
    ) -> SoftmaxState:
        """Gather points, first into the dynamic queries, then into their values."""
        if latents:
            k, v = self._keys(x), self._values(x)
        else:
            k = v = self._context(x)
        q = latents[0] if latents else self.seed_norm(self.seeds)
        return ragged_flare_encode(q.to(k.dtype), k, v, layout, scale=self.score_scale)

    def process(self, state: SoftmaxState, latents: Latents = ()) -> Latents:
        """Return the queries of each graph, then the queries and their values."""
        if latents:
            return latents[0], state.value
        gate = self.gate.sigmoid()[:, None, None]  # [H, 1, 1]
        return (self.latent_norm(self.latents) + gate * state.value,)

    def decode_rows(self, latents: Latents, x: Tensor, layout: PointBatch) -> Tensor:
        """Scatter the values of the queries to points."""
        k = self._keys(x)
        q, z = (t.to(k.dtype) for t in latents)
        y = ragged_flare_decode(q, k, z, layout, scale=self.score_scale)
        return self._merge_heads(y)

    def mix_rows(
        self, x: Tensor, layout: PointBatch, group: "ProcessGroup | None"
    ) -> Tensor:
        """Gather and scatter with the same keys."""
        state = distributed_merge(self.encode_rows(x, layout), group)
        k, v = self._keys(x), self._values(x)
        q = self.process(state)[0].to(k.dtype)
        if group is None:
            y = ragged_flare_attention(q, k, v, layout, scale=self.score_scale)
        recording = not torch.compiler.is_compiling() and RECORD.get() is not None
        if group is not None or recording:
            state = ragged_flare_encode(q, k, v, layout, scale=self.score_scale)
            state = distributed_merge(state, group)
            record_state(state)
        if group is not None:
            z = state.value.to(k.dtype)
            y = ragged_flare_decode(q, k, z, layout, scale=self.score_scale)
        return self._merge_heads(y)

    def attention_weights(
        self,
        x: Tensor,
        batch: Batch = None,
        batch_size: int | None = None,
        weight: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""Return the gather and scatter weights of queries and points.

        Args:
            x: Features of the points.
            batch: Graph of each point, or the layout.
            batch_size: Number of graphs. Pass it if trailing graphs may be empty.
            weight: Weight of each point, as in `forward`.

        Shapes:
            - `x`: $[N, C]$
            - `batch`, `weight`: $[N]$

        Returns:
            Gather weights and scatter weights, both $[N, H, M]$: the first sum to
            one over the points of each graph, the second over the queries.

        Raises:
            ValueError: See `forward`.
        """
        layout = self._layout(x, batch, batch_size, None, weight=weight)
        if layout is not batch:
            x = layout.sort(x)
        k = self._keys(x)
        q = self.process(self.encode_rows(x, layout))[0].to(k.dtype)
        weights = ragged_flare_weights(q, k, layout, scale=self.score_scale)
        gather, scatter = weights if layout is batch else map(layout.unsort, weights)
        return gather, scatter

    def queries_and_keys(
        self, x: Tensor, latents: Latents, u: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the queries of graphs $[B, H, M, D]$ and the keys $[N, H, D]$."""
        k = self._keys(x)
        return latents[0].to(k.dtype), k

    def _context(self, x: Tensor) -> Tensor:
        c = self._split_heads(self.context(x))
        normalized: Tensor = self.context_norm(c)
        # Under autocast, the norm returns float32 for values in half precision.
        return normalized.to(c.dtype)

    def _keys(self, x: Tensor) -> Tensor:
        k = self._split_heads(self.key(x))
        normalized: Tensor = self.key_norm(k)
        return normalized.to(k.dtype)

    def _values(self, x: Tensor) -> Tensor:
        return self._split_heads(self.value(x))

    def _check_input(self, x: Tensor, role: Role) -> None:
        """Set the width from the first input, then validate it."""
        if self.in_channels == UNKNOWN:
            self._materialise(first_width(x))
        super()._check_input(x, role)

    def _materialise(self, in_channels: int) -> None:
        """Set the width of the input."""
        for linear in (self.context, self.key, self.value):
            if materialise(linear, in_channels):
                _reset_to_identity(linear)
        self.in_channels = in_channels

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.reshape(x.size(0), self.heads, self.head_channels)

    def _merge_heads(self, y: Tensor) -> Tensor:
        out: Tensor = self.out(y.flatten(-2))
        return out

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.in_channels}, {self.out_channels}, "
            f"heads={self.heads}, num_latents={self.num_latents})"
        )


def _reset_to_identity(linear: nn.Linear) -> None:
    """Draw a weight close to the identity and set the bias to zero."""
    if input_width(linear) == UNKNOWN:
        return
    nn.init.trunc_normal_(linear.weight, std=0.02)
    with torch.no_grad():
        linear.weight.diagonal().add_(1.0)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)


def _take_loaded_width(conv: nn.Module, incompatible_keys: Any) -> None:
    """Set the input width of a lazy module from its loaded weights."""
    assert isinstance(conv, FLAREPPConv)
    width = input_width(conv.key)
    if width != UNKNOWN:
        conv._materialise(width)
