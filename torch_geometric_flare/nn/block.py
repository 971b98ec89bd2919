"""The residual block of the networks."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from torch_geometric_flare.functional import PointBatch, State
from torch_geometric_flare.nn.checks import (
    check_condition_channels,
    check_condition_octaves,
    check_conditions,
)
from torch_geometric_flare.nn.dense.conditioned_norm import layer_norm
from torch_geometric_flare.nn.streaming.stage import Latents, Stage, why_whole

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class ResidualBlock(nn.Module):
    r"""A pre-norm residual block: a mixer of points, then a pointwise map.

    $$x \leftarrow x + \mathrm{mixer}(\mathrm{LN}(x)), \qquad
      x \leftarrow x + \mathrm{feedforward}(\mathrm{LN}(x))$$

    An optional local layer before the mixer passes messages along edges:

    $$x \leftarrow x + \mathrm{local}(\mathrm{LN}(x), \mathrm{edges})$$

    With conditions $u$ of the whole graph, both norms, except that of the local layer,
    are modulated, see `nn.ConditionedNorm`: $\mathrm{LN}(x)\,(1 + \gamma(u)) +
    \beta(u)$.

    Such a block combines local and global interactions, like `GPSConv` of PyTorch
    Geometric.

    Args:
        channels: Width of the features.
        mixer: Called as `mixer(x, batch)`; the only part that combines points. With the
            methods of a `PointMixer` the block also runs in chunks, on points
            distributed over processes, and from file to file.
        feed_forward: Called as `feed_forward(x)`, on each point separately.
        local: Called as `local(x, **edges)`, such as a convolution of PyTorch
            Geometric. A block with a local layer needs all points at once.
        condition_channels: Conditions of each graph; 0 for none.
        condition_octaves: Octaves of sines and cosines of each condition that the norms
            also take, see `ConditionedNorm`.

    Shapes:
        - input: $[N, C]$
        - output: $[N, C]$

    Examples:
        >>> from torch_geometric.nn import GINEConv
        >>> local = GINEConv(ResidualMLP(8, 8, 8, 0), edge_dim=3)
        >>> mixer = FLAREConv(8, heads=2)
        >>> block = ResidualBlock(8, mixer, ResidualMLP(8, 8, 8, 0), local)
        >>> edge_index = torch.tensor([[0, 1, 2], [1, 2, 3]])
        >>> edges = {"edge_index": edge_index, "edge_attr": torch.randn(3, 3)}
        >>> block(torch.randn(5, 8), edges=edges).shape
        torch.Size([5, 8])
    """

    def __init__(
        self,
        channels: int,
        mixer: nn.Module,
        feed_forward: nn.Module,
        local: nn.Module | None = None,
        condition_channels: int = 0,
        condition_octaves: int = 0,
    ) -> None:
        super().__init__()
        self.condition_channels = check_condition_channels(condition_channels)
        if local is not None:
            self.local_norm = nn.LayerNorm(channels)
        self.local = local
        check_condition_octaves(condition_octaves, condition_channels)
        conditions = condition_channels, condition_octaves
        self.mixer_norm: Any = layer_norm(channels, *conditions)
        self.mixer = mixer
        self.feed_forward_norm: Any = layer_norm(channels, *conditions)
        self.feed_forward = feed_forward

    @property
    def supports_cpu_kernels(self) -> bool:
        """Whether CPU kernels compute most of the block."""
        return getattr(self.mixer, "supports_cpu_kernels", False) is True

    def reset_parameters(self) -> None:
        """Reset parameters."""
        for module in self.children():
            module.reset_parameters()  # type: ignore[operator]

    @property
    def why_whole(self) -> str | None:
        """Why the block needs all points at once; `None` if it is a `Stage`."""
        if self.local is not None:
            name = type(self.local).__name__
            return f"the local layer {name} passes messages along edges"
        return why_whole(self.mixer)

    @property
    def num_encodes(self) -> int:
        """How often the mixer encodes, see `nn.streaming.Stage`."""
        return self._stage.num_encodes

    @property
    def _stage(self) -> Stage:
        reason = self.why_whole
        if reason is not None:
            raise ValueError(
                f"{reason}: the block cannot run in chunks, on points spread over "
                "processes, or from file to file"
            )
        stage: Any = self.mixer
        return stage  # type: ignore[no-any-return]

    def encode_rows(
        self, x: Tensor, layout: PointBatch, latents: Latents = ()
    ) -> State:
        """Return the mixer's state of the points."""
        condition = (layout,) if self.condition_channels else ()
        return self._stage.encode_rows(self.mixer_norm(x, *condition), layout, latents)

    def process(self, state: Any, latents: Latents = ()) -> Latents:
        """Return the mixer's processed state of each graph."""
        return self._stage.process(state, latents)

    def decode_rows(self, latents: Latents, x: Tensor, layout: PointBatch) -> Tensor:
        """Return the output rows of the block."""
        condition = (layout,) if self.condition_channels else ()
        y = self._stage.decode_rows(latents, self.mixer_norm(x, *condition), layout)
        return self._update(x, y, condition)

    def forward(
        self,
        x: Tensor,
        batch: PointBatch | Tensor | None = None,
        group: "ProcessGroup | None" = None,
        edges: Mapping[str, Any] | None = None,
        u: Tensor | None = None,
    ) -> Tensor:
        """Apply the block.

        Args:
            x: Features of the points.
            batch: Graph of each point, or the layout; passed to the mixer.
            group: Processes that hold the other points of these graphs, if any; passed
                to the mixer as `mixer(x, batch, group=group)`.
            edges: Keyword arguments of the local layer, such as `edge_index` and
                `edge_attr`. They refer to the rows of `x`.
            u: Conditions of each graph, $[B, G]$; a layout includes them.

        Returns:
            The features after the block, $[N, C]$.

        Raises:
            ValueError: If there is a local layer without `edges`, or `edges` without a
                local layer, or a `group` but the block needs all points at once, or `u`
                is missing or its width differs from `condition_channels`.
        """
        if (self.local is None) != (edges is None):
            raise ValueError(
                "edges are given, but the block has no local layer: leave them out, or "
                "pass local="
                if self.local is None
                else f"edges is None, but {self.why_whole}: pass edges, such as "
                "edges={'edge_index': edge_index}"
            )
        mixer: Any = self.mixer if group is None else self._stage
        if self.local is not None and edges is not None:
            x = x + self.local(self.local_norm(x), **edges)
        if u is not None:
            check_conditions(self, u)
        condition = (batch, u) if self.condition_channels else ()
        shared: dict[str, Any] = {} if group is None else {"group": group}
        if u is not None and getattr(self.mixer, "condition_channels", 0) > 0:
            shared["u"] = u
        mixed = mixer(self.mixer_norm(x, *condition), batch, **shared)
        return self._update(x, mixed, condition)

    def run_with_state(
        self, x: Tensor, layout: PointBatch, group: "ProcessGroup | None" = None
    ) -> tuple[Tensor, Any]:
        """Return the output of `forward` and the mixer's state.

        Args:
            x: Features, in the order of the layout.
            layout: The graphs.
            group: Processes that hold the other points of these graphs.

        Shapes:
            - `x`: $[N, C]$
        """
        condition = (layout,) if self.condition_channels else ()
        mixer: Any = self.mixer
        mixed, state = mixer.mix_with_state(
            self.mixer_norm(x, *condition), layout, group
        )
        return self._update(x, mixed, condition), state

    def _update(self, x: Tensor, mixed: Tensor, condition: tuple[Any, ...]) -> Tensor:
        """Add the output of the mixer, then that of the pointwise map."""
        x = x + mixed
        y: Tensor = x + self.feed_forward(self.feed_forward_norm(x, *condition))
        return y
