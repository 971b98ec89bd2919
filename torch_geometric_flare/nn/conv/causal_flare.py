"""Causal FLARE along time."""

import torch
from torch import Tensor, nn

from torch_geometric_flare.functional import (
    PointBatch,
    SoftmaxState,
    causal_flare_attention,
    ragged_flare_encode,
)
from torch_geometric_flare.functional.state import state_dtype
from torch_geometric_flare.functional.torch_internals import no_autocast
from torch_geometric_flare.nn.checks import check_double, check_points, check_positive
from torch_geometric_flare.nn.conv.flare_conv import FLAREConv
from torch_geometric_flare.nn.dense.residual_mlp import Activation
from torch_geometric_flare.nn.initialization import Init
from torch_geometric_flare.nn.layout import Batch, point_layout


class CausalFLAREConv(nn.Module):
    r"""Low-rank attention along time: the output at a step sees no later step.

    The module has the parameters of `FLAREConv`, which gives the same output for the
    last step of a sequence. The output of an earlier step does not depend on later
    steps:

    $$z_{mi} = \frac{\sum_{j \le i} e^{s\,q_m \cdot k_j} v_j}
                    {\sum_{j \le i} e^{s\,q_m \cdot k_j}}, \qquad
      y_i = \sum_m \mathrm{softmax}_m(s\,q_m \cdot k_i)\,z_{mi}, \qquad x'_i = W\,y_i$$

    All steps are computed in blocks at linear cost (`forward`), or one by one from a
    state of $M$ latents per head, whose size does not depend on the number of previous
    steps (`prefill`, `step`). Sequences of a batch do not interact. The output depends
    on the order of steps but not on their distance in time; if it matters, add time as
    a feature.

    Args:
        in_channels: Width of the input.
        out_channels: Width of the output. Default: `in_channels`.
        heads: Number of attention heads $H$.
        num_latents: Number of latents $M$ per head.
        head_channels: Width $D$ of a head. Default: `out_channels // heads`.
        kv_layers: Number of residual hidden layers of the key and value MLPs; -1 makes
            each a single linear map, residual if widths match.
        scale: Scaling factor $s$ of the scores.
        act: Activation of the MLPs.
        qk_norm: Whether queries and keys pass a `LayerNorm` over the head width.
        bias: Whether the linear maps have a bias.
        block_size: Number of steps per block; affects time and memory, not the result.
        init: Parameter initialization, see `nn.initialization`.

    Shapes:
        - input: $[N, C_\text{in}]$, `batch` $[N]$
        - output: $[N, C_\text{out}]$

    Raises:
        ValueError: See `FLAREConv`; also if `block_size` is not positive.

    Source:
        [arXiv 2508.12594](https://arxiv.org/abs/2508.12594) for the operator that is
        not causal. The page Theory derives this one.

    Examples:
        >>> conv, x = CausalFLAREConv(16, heads=4, num_latents=32), torch.randn(100, 16)
        >>> y = conv(x)
        >>> start, state = conv.prefill(x[:99])
        >>> last, state = conv.step(x[99:], state)
        >>> torch.allclose(torch.cat([start, last]), y, atol=1e-5)
        True
        >>> state.value.shape
        torch.Size([1, 4, 32, 4])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        heads: int = 8,
        num_latents: int = 64,
        head_channels: int | None = None,
        kv_layers: int = 3,
        scale: float = 1.0,
        act: Activation = "gelu",
        qk_norm: bool = False,
        bias: bool = True,
        block_size: int = 64,
        init: Init = "scaled",
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, block_size=block_size)
        self.block_size = block_size
        self.conv = FLAREConv(
            in_channels,
            out_channels,
            heads,
            num_latents,
            head_channels,
            kv_layers,
            scale,
            act,
            qk_norm,
            bias,
            init=init,
        )

    def reset_parameters(self) -> None:
        """Reset parameters."""
        self.conv.reset_parameters()

    def forward(
        self, x: Tensor, batch: Batch = None, batch_size: int | None = None
    ) -> Tensor:
        """Compute all steps of each sequence.

        Args:
            x: Features of the steps, in order within each sequence.
            batch: Sequence of each step, sorted; `None` for a single sequence. If it is
                a `PointBatch`, the rows of `x` are in its order.
            batch_size: Number of sequences. Pass it if trailing sequences may be empty.

        Shapes:
            - `x`: $[N, C]$
            - `batch`: $[N]$

        Returns:
            $[N, C']$

        Raises:
            ValueError: If the width of `x` is not `in_channels`, or `batch` is
                unsorted, of another length, or out of range, or the layout has weights.
        """
        return self._run(x, batch, batch_size, None, last=False)[0]

    def prefill(
        self,
        x: Tensor,
        batch: Batch = None,
        batch_size: int | None = None,
        state: SoftmaxState | None = None,
    ) -> tuple[Tensor, SoftmaxState]:
        """Compute all steps of each sequence and the resulting state.

        Args:
            x: Features of the steps, as in `forward`.
            batch: Sequence of each step, or the layout.
            batch_size: Number of sequences. Default: that of `state`.
            state: The state of earlier steps; `None` if these are the first.

        Shapes:
            - `x`: $[N, C]$
            - `batch`: $[N]$

        Returns:
            The output $[N, C']$, and the state of each sequence for a following `step`
            or `prefill`. An empty sequence keeps its state.

        Raises:
            ValueError: As `forward`, or if the state does not fit.
        """
        if state is not None and batch is not None and batch_size is None:
            batch_size = len(state.value)
        return self._run(x, batch, batch_size, state, last=True)

    def step(
        self, x: Tensor, state: SoftmaxState | None = None
    ) -> tuple[Tensor, SoftmaxState]:
        """Compute one more step of each sequence in constant time.

        A float32 state accumulates rounding errors over very many steps. A float64
        state, `SoftmaxState(*(t.double() for t in state))`, stays float64 for any dtype
        of `x`.

        Args:
            x: Features of the step, one row per sequence.
            state: The state of earlier steps; `None` if this is the first.

        Shapes:
            - `x`: $[B, C]$

        Returns:
            The output $[B, C']$, and the state including this step.

        Raises:
            ValueError: If the width of `x` is not `in_channels`, or the state does not
                fit.
        """
        self._check(x)
        q, k, v = self._queries_keys_values(x)
        if state is None:
            state = self._empty_state(len(x), v)
        self._check_state(state, len(x))
        with no_autocast(x.device.type):
            q, k, values = (t.to(state_dtype(t.dtype)) for t in (q, k, v))
            scores = self.conv.scale * torch.einsum("hmd,bhd->bhm", q, k)
            value = values.unsqueeze(2).expand(*scores.shape, -1)
            state = state.merge(SoftmaxState(value, scores))
            y = scores.softmax(dim=-1).unsqueeze(2).to(state.value.dtype) @ state.value
        return self._out(y.squeeze(2).to(v.dtype)), state

    def _run(
        self,
        x: Tensor,
        batch: Batch,
        batch_size: int | None,
        state: SoftmaxState | None,
        last: bool,
    ) -> tuple[Tensor, SoftmaxState]:
        """Return the output and the state, updated only if `last` is true."""
        self._check(x)
        layout = point_layout(self, x, batch, batch_size)
        if layout.weight is not None or layout.u is not None:
            raise ValueError(
                "batch is a PointBatch with weight or u, which CausalFLAREConv does "
                "not support: pass one without them"
            )
        q, k, v = self._queries_keys_values(x if layout is batch else layout.sort(x))
        if state is None:
            state = self._empty_state(layout.num_graphs, v)
        self._check_state(state, layout.num_graphs)
        y = self._attend(q, k, v, layout, state)
        if last:
            scale = self.conv.scale
            state = state.merge(ragged_flare_encode(q, k, v, layout, scale=scale))
        y = self._out(y)
        return (y if layout is batch else layout.unsort(y)), state

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, layout: PointBatch, state: SoftmaxState
    ) -> Tensor:
        """Compute dense batches of sequences, which are padded at their ends."""
        if layout.num_points == 0:
            return v
        scale, parts = self.conv.scale, []
        for dense, keys, values in zip(
            layout.dense_batches, layout.split(k), layout.split(v), strict=True
        ):
            rows = list(dense.graphs)
            y = causal_flare_attention(
                q,
                keys.transpose(1, 2),
                values.transpose(1, 2),
                scale=scale,
                state=SoftmaxState(state.value[rows], state.lse[rows]),
                block_size=self.block_size,
            )
            parts.append(y.transpose(1, 2))
        return layout.join(parts)

    def _queries_keys_values(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k = self.conv.queries_and_keys(x)
        v: Tensor = self.conv.value_mlp(x)
        return q, k, v.reshape(k.shape)

    def _out(self, y: Tensor) -> Tensor:
        out: Tensor = self.conv.out(y.flatten(-2))
        return out

    def _empty_state(self, batch_size: int, v: Tensor) -> SoftmaxState:
        like = v.new_empty(0, dtype=state_dtype(v.dtype))
        return SoftmaxState.empty(batch_size, *self.conv.latents.shape, like=like)

    def _check(self, x: Tensor) -> None:
        check_points(x, self.conv.key_mlp.in_channels)
        if x.dtype == torch.float64:
            check_double(self)

    def _check_state(self, state: SoftmaxState, batch_size: int) -> None:
        expected = (batch_size, *self.conv.latents.shape)
        shapes = tuple(state.value.shape), tuple(state.lse.shape)
        if shapes != (expected, expected[:-1]):
            raise ValueError(
                f"state has shapes {shapes}, expected {(expected, expected[:-1])}: "
                f"one for each of {batch_size} sequences"
            )

    def __repr__(self) -> str:
        return str(self.conv).replace("FLAREConv", type(self).__name__, 1)
