"""FLARE as an operator on `x` and `batch`."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from torch_geometric_flare.functional import (
    PointBatch,
    SoftmaxState,
    distributed_merge,
    flare_attention,
    flare_decode,
    flare_encode,
    ragged_flare_attention,
    ragged_flare_decode,
    ragged_flare_encode,
    ragged_flare_weights,
)
from torch_geometric_flare.functional.attention.choice import compute
from torch_geometric_flare.nn.checks import (
    check_condition_channels,
    check_condition_octaves,
    check_conditions,
    check_count,
    check_heads,
    check_input_channels,
    check_layers,
    check_positive,
)
from torch_geometric_flare.nn.dense.conditioned_norm import encode_conditions
from torch_geometric_flare.nn.dense.latent_block import LatentBlocks
from torch_geometric_flare.nn.dense.lazy import UNKNOWN, after_loading, first_width
from torch_geometric_flare.nn.dense.residual_mlp import (
    Activation,
    ResidualMLP,
    reset_linear,
)
from torch_geometric_flare.nn.initialization import Init, check_init, reset_latents
from torch_geometric_flare.nn.layout import Batch
from torch_geometric_flare.nn.mixer import PointMixer, Role
from torch_geometric_flare.nn.streaming.stage import (
    RECORD,
    Latents,
    record_state,
)

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class FLAREConv(PointMixer):
    r"""Low-rank global attention between the points of each graph, at linear cost.

    From the Fast Low-rank Attention Routing Engine, [arXiv
    2508.12594](https://arxiv.org/abs/2508.12594). In each head, $M$ learned latents $Q$
    gather from the points and scatter back to them:

    $$Z = \mathrm{softmax}_N(s\,QK^\top)V, \qquad
      Y = \mathrm{softmax}_M(s\,KQ^\top)Z, \qquad x' = W\,Y$$

    where keys and values are residual MLPs of $x$. Graphs of a batch never interact,
    for any sizes. The cost is $O(NM)$.

    With conditions $u$ of each graph, its latents are $Q + W_u\, e(u)$, where $W_u$
    starts at zero, and $e(u)$ is $u$, followed by its sines and cosines if there are
    `condition_octaves`.

    Args:
        in_channels: Width of the input; -1 to infer it from the first input. A pair for
            different source and query points, whose keys then come from two MLPs.
        out_channels: Width of the output; by default `in_channels`, if that is a
            positive number.
        heads: Attention heads $H$.
        num_latents: Latents $M$ of each head, the rank of the operator.
        head_channels: Width $D$ of a head; by default `out_channels // heads`.
        kv_layers: Residual hidden layers of the key and value MLPs; -1 makes each a
            single linear map, residual where widths match.
        scale: Factor $s$ on the scores.
        act: Activation of the MLPs; `"gelu"` is the tanh approximation.
        qk_norm: Whether queries and keys pass a `LayerNorm` over the head width.
        bias: Whether the linear maps have a bias; those of `latent_blocks` do.
        chunk_size: Points to compute at a time, forward and backward, with the same
            result; `None` for all at once. May be set on an existing module.
        init: The initialization, see `nn.initialization`: `"scaled"`, or `"paper"` as
            published.
        shared_latents: Whether all heads have the same latents, one parameter $[1, M,
            D]$ instead of $[H, M, D]$.
        latent_blocks: Pre-norm transformer blocks among the latents of each graph,
            between gathering and scattering. Latent $m$ of all heads is one token of $H
            D$ channels; the MLPs have the same width.
        condition_channels: Conditions of each graph that shift its latents; 0 for none.
        condition_octaves: Octaves of `transforms.fourier_features` of each condition,
            which should be scaled to about $[-1, 1]$, such as a time; 0 for none.

    Shapes:
        - input: $[N, C_\text{in}]$, `batch` $[N]$; or a pair of each; or padded
            $[B, N, C_\text{in}]$ with a mask $[B, N]$
        - output: $[N, C_\text{out}]$, padded $[B, N, C_\text{out}]$

    Raises:
        ValueError: If a size is not positive, `latent_blocks` is negative, there are
            `condition_octaves` without conditions, `out_channels` is needed and not
            given, or `head_channels` is not given and `out_channels` is not divisible
            by `heads`.

    Examples:
        >>> conv = FLAREConv(16, heads=4, num_latents=32)
        >>> x = torch.randn(100, 16)
        >>> batch = torch.tensor([0] * 30 + [1] * 70)
        >>> conv(x, batch).shape
        torch.Size([100, 16])
        >>> lazy = FLAREConv((-1, -1), 32)
        >>> lazy((torch.randn(100, 16), torch.randn(70, 3))).shape
        torch.Size([70, 32])
        >>> lazy
        FLAREConv((16, 3), 32, heads=8, num_latents=64)
    """

    no_weight_decay = ("latents",)

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int | None = None,
        heads: int = 8,
        num_latents: int = 64,
        head_channels: int | None = None,
        kv_layers: int = 3,
        scale: float = 1.0,
        act: Activation = "gelu",
        qk_norm: bool = False,
        bias: bool = True,
        chunk_size: int | None = None,
        init: Init = "scaled",
        shared_latents: bool = False,
        latent_blocks: int = 0,
        condition_channels: int = 0,
        condition_octaves: int = 0,
    ) -> None:
        super().__init__()
        source, query = _widths(in_channels)
        if out_channels is None:
            if isinstance(in_channels, tuple) or in_channels == UNKNOWN:
                raise ValueError(
                    f"out_channels is None, and in_channels={in_channels} gives no "
                    "default: pass a positive integer"
                )
            out_channels = in_channels
        check_positive(
            out_channels=out_channels,
            heads=heads,
            num_latents=num_latents,
            chunk_size=chunk_size,
        )
        check_layers(kv_layers=kv_layers)
        check_count(latent_blocks=latent_blocks)
        if head_channels is None:
            head_channels = check_heads(out_channels, heads, "out_channels")
        check_positive(head_channels=head_channels)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.heads = heads
        self.num_latents = num_latents
        self.head_channels = head_channels
        self.kv_layers = kv_layers
        self.scale = scale
        self.__dict__["act"] = act  # not a registered module
        self.qk_norm = qk_norm
        self.bias = bias
        self.chunk_size = chunk_size
        self.init = check_init(init)
        self.shared_latents = shared_latents
        self.latent_blocks = latent_blocks
        self.condition_channels = check_condition_channels(condition_channels)
        self.condition_octaves = check_condition_octaves(
            condition_octaves, condition_channels
        )

        width = heads * head_channels
        sets = 1 if shared_latents else heads
        self.latents = nn.Parameter(torch.empty(sets, num_latents, head_channels))
        self.modulation: nn.Parameter | None = None  # W_u
        if condition_channels:
            encoded = condition_channels * (1 + 2 * condition_octaves)
            self.modulation = nn.Parameter(torch.empty(*self.latents.shape, encoded))
        self.key_mlp = ResidualMLP(
            source, width, width, kv_layers, act, bias, init=init
        )
        self.value_mlp = ResidualMLP(
            source, width, width, kv_layers, act, bias, init=init
        )
        # Keys of query points with their own channels.
        self.query_mlp: ResidualMLP | None = None
        if isinstance(in_channels, tuple):
            self.query_mlp = ResidualMLP(
                query, width, width, kv_layers, act, bias, init=init
            )
        self.query_norm = nn.LayerNorm(head_channels) if qk_norm else nn.Identity()
        self.key_norm = nn.LayerNorm(head_channels) if qk_norm else nn.Identity()
        self.out = nn.Linear(width, out_channels, bias=bias)
        self.latent_mixer: LatentBlocks | None = None
        if latent_blocks:
            self.latent_mixer = LatentBlocks(width, heads, latent_blocks, act, init)
        if UNKNOWN in (source, query):
            after_loading(self, _take_loaded_widths)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset parameters."""
        reset_latents(self.latents, self.scale, self.init)
        if self.modulation is not None:
            nn.init.zeros_(self.modulation)
        self.key_mlp.reset_parameters()
        self.value_mlp.reset_parameters()
        if self.query_mlp is not None:
            self.query_mlp.reset_parameters()
        reset_linear(self.out)
        if self.latent_mixer is not None:
            self.latent_mixer.reset_parameters()
        for norm in (self.query_norm, self.key_norm):
            if isinstance(norm, nn.LayerNorm):
                norm.reset_parameters()

    @property
    def supports_cpu_kernels(self) -> bool:
        """Whether the MLPs of keys and values are narrow enough for the kernels."""
        return self.key_mlp.supports_cpu_kernels and self.value_mlp.supports_cpu_kernels

    def encode_rows(
        self, x: Tensor, layout: PointBatch, latents: Latents = ()
    ) -> SoftmaxState:
        """Gather points into latents: value $[B, H, M, D]$, log-sum-exp $[B, H, M]$."""
        k, v = self._keys(x), self._values(x)
        q = self._queries(k, layout.u)
        return ragged_flare_encode(q, k, v, layout, scale=self.scale)

    def process(self, state: SoftmaxState, latents: Latents = ()) -> Latents:
        """Return the values of the latents, after the blocks among them."""
        value = state.value
        return (value if self.latent_mixer is None else self.latent_mixer(value),)

    def decode_rows(self, latents: Latents, x: Tensor, layout: PointBatch) -> Tensor:
        """Scatter the values of the latents to points."""
        k = self._keys(x, self.query_mlp)
        z = latents[0].to(k.dtype)
        q = self._queries(k, layout.u)
        y = ragged_flare_decode(q, k, z, layout, scale=self.scale)
        return self._merge_heads(y)

    def mix_with_state(
        self, x: Tensor, layout: PointBatch, group: "ProcessGroup | None"
    ) -> tuple[Tensor, SoftmaxState]:
        """Return the output of `mix_rows` and the state of all points."""
        k, v = self._keys(x), self._values(x)
        q = self._queries(k, layout.u)
        state = ragged_flare_encode(q, k, v, layout, scale=self.scale)
        state = distributed_merge(state, group)
        record_state(state)
        z = self.process(state)[0].to(k.dtype)
        y = ragged_flare_decode(q, k, z, layout, scale=self.scale)
        return self._merge_heads(y), state

    def mix_rows(
        self, x: Tensor, layout: PointBatch, group: "ProcessGroup | None"
    ) -> Tensor:
        """Gather and scatter with the same keys."""
        if self.latent_mixer is not None or group is not None or x.size(0) == 0:
            return self.mix_with_state(x, layout, group)[0]
        k, v = self._keys(x), self._values(x)
        q = self._queries(k, layout.u)
        if not torch.compiler.is_compiling() and RECORD.get() is not None:
            record_state(ragged_flare_encode(q, k, v, layout, scale=self.scale))
        if self.modulation is not None:
            y = ragged_flare_attention(q, k, v, layout, scale=self.scale)
        else:
            y = compute("attention", q[None], k, v, self.scale, layout)
        return self._merge_heads(y)

    def mix_padded(self, x: Tensor, mask: Tensor, u: Tensor | None = None) -> Tensor:
        r"""Mix padded graphs by operations whose shapes depend only on input shapes.

        Args:
            x: Features, finite in the padding too.
            mask: True for real points.
            u: Conditions of each graph.

        Shapes:
            - `x`: $[B, N, C_\text{in}]$
            - `mask`: $[B, N]$
            - `u`: $[B, G]$

        Returns:
            $[B, N, C_\text{out}]$, undefined in the padding.
        """
        k, v = self._keys(x).transpose(1, 2), self._values(x).transpose(1, 2)
        q = self._queries(k, u)
        if self.latent_mixer is None:
            y = flare_attention(q, k, v, scale=self.scale, mask=mask)
        else:
            state = flare_encode(q, k, v, scale=self.scale, mask=mask)
            y = flare_decode(q, k, self.process(state)[0], scale=self.scale)
        return self._merge_heads(y.transpose(1, 2))

    def attention_weights(
        self,
        x: Tensor,
        batch: Batch = None,
        batch_size: int | None = None,
        weight: Tensor | None = None,
        u: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""Return the weights of gathering and scattering.

        With `latent_blocks` the output is not the product of the two and the values.

        Args:
            x: Features of the points.
            batch: Graph of each point, or the layout.
            batch_size: Number of graphs; trailing ones may be empty.
            weight: Weight of each point, as in `forward`.
            u: Conditions of each graph, as in `forward`.

        Shapes:
            - `x`: $[N, C]$
            - `batch`, `weight`: $[N]$
            - `u`: $[B, G]$

        Returns:
            Gather weights and scatter weights, both $[N, H, M]$: the first sum to one
            over the points of each graph, the second over the latents.

        Raises:
            ValueError: As `forward`.
        """
        layout = self._layout(x, batch, batch_size, None, weight=weight, u=u)
        if layout is not batch:
            x = layout.sort(x)
        k = self._keys(x)
        q = self._queries(k, layout.u)
        weights = ragged_flare_weights(q, k, layout, scale=self.scale)
        gather, scatter = weights if layout is batch else map(layout.unsort, weights)
        return gather, scatter

    @property
    def score_scale(self) -> float:
        """The factor on the scores."""
        return self.scale

    def queries_and_keys(
        self, x: Tensor, latents: Latents = (), u: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the queries and the keys of points $[N, H, D]$.

        Queries are $[H, M, D]$, with conditions $[B, H, M, D]$.
        """
        k = self._keys(x)
        return self._queries(k, u), k

    def _queries(self, k: Tensor, u: Tensor | None = None) -> Tensor:
        latents: Tensor = self.latents
        if self.modulation is not None:
            latents = latents + self._latent_shift(self.modulation, u)
        q: Tensor = self.query_norm(latents)
        if self.shared_latents:
            q = q.expand(*q.shape[:-3], self.heads, -1, -1)
        return q.to(k.dtype)  # under autocast the keys are in lower precision

    def _latent_shift(self, modulation: Tensor, u: Tensor | None) -> Tensor:
        """Return the shift of the latents of each graph by conditions, [B, H, M, D]."""
        check_conditions(self, u)
        assert u is not None
        encoded = encode_conditions(u, self.condition_octaves).to(modulation.dtype)
        shift = linear(encoded, modulation.flatten(0, 2))
        return shift.view(-1, *self.latents.shape)

    def _keys(self, x: Tensor, mlp: ResidualMLP | None = None) -> Tensor:
        k = self._split_heads((mlp or self.key_mlp)(x))
        normalised: Tensor = self.key_norm(k)
        # Under autocast the norm returns float32 for values in half precision.
        return normalised.to(k.dtype)

    def _values(self, x: Tensor) -> Tensor:
        return self._split_heads(self.value_mlp(x))

    def _check_input(self, x: Tensor, role: Role) -> None:
        """Infer the width from the first input, then check it."""
        if UNKNOWN in _widths(self.in_channels):
            self._materialise(x, role)
        super()._check_input(x, role)

    def _materialise(self, x: Tensor, role: Role) -> None:
        """Set the width of lazy MLPs from these points."""
        mlps: tuple[ResidualMLP, ...] = (self.key_mlp, self.value_mlp)
        if self.query_mlp is not None:
            mlps = {"both": (), "source": mlps, "query": (self.query_mlp,)}[role]
        for mlp in mlps:
            mlp.materialise(first_width(x))
        self._take_widths()

    def _take_widths(self) -> None:
        """Set `in_channels` from the MLPs."""
        source, query = self.key_mlp.in_channels, self.query_mlp
        self.in_channels = source if query is None else (source, query.in_channels)

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], self.heads, self.head_channels)

    def _merge_heads(self, y: Tensor) -> Tensor:
        out: Tensor = self.out(y.flatten(-2))
        return out

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.in_channels}, {self.out_channels}, "
            f"heads={self.heads}, num_latents={self.num_latents})"
        )


def _widths(in_channels: int | tuple[int, int]) -> tuple[int, int]:
    """Return the widths of source and query points."""
    pair = in_channels if isinstance(in_channels, tuple) else (in_channels,) * 2
    if len(pair) != 2:
        raise ValueError(
            f"in_channels is {in_channels}, expected the width of all points, or a "
            "pair of those of source and query points"
        )
    for width in pair:
        check_input_channels(width)
    return pair


def _take_loaded_widths(conv: nn.Module, incompatible_keys: Any) -> None:
    """Set the widths of a lazy module from the loaded weights."""
    assert isinstance(conv, FLAREConv)
    conv._take_widths()
