"""The residual block that every surrogate of this package is stacked from."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from torch_geometric_flare.functional import PointBatch, State
from torch_geometric_flare.nn.stage import (
    Latents,
    Stage,
    Step,
    is_stage,
    take_step,
)

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_WHOLE = (
    "so it cannot run in chunks, on points spread over processes, or from file to file"
)


class ResidualBlock(nn.Module):
    r"""A pre-norm residual block: a mixer of points, then a pointwise map.

    $$x \leftarrow x + \mathrm{mixer}(\mathrm{LN}(x)), \qquad
      x \leftarrow x + \mathrm{feedforward}(\mathrm{LN}(x))$$

    Before the mixer may stand a local layer, which passes messages along edges:

    $$x \leftarrow x + \mathrm{local}(\mathrm{LN}(x), \mathrm{edges})$$

    So each block joins what is near and what is global, as `GPSConv` of PyTorch
    Geometric does.

    Args:
        channels: Width of the features.
        mixer: Called as `mixer(x, batch)`; the only part that sees several points.
            With the methods of a `PointMixer` the block runs in chunks, on points
            spread over processes, and from file to file as well.
        feed_forward: Called as `feed_forward(x)`, on each point by itself.
        local: Called as `local(x, **edges)`, such as a convolution of PyTorch
            Geometric. A block with one sees all points at once.

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
    ) -> None:
        super().__init__()
        if local is not None:
            self.local_norm = nn.LayerNorm(channels)
        self.local = local
        self.mixer_norm = nn.LayerNorm(channels)
        self.mixer = mixer
        self.feed_forward_norm = nn.LayerNorm(channels)
        self.feed_forward = feed_forward

    @property
    def supports_cpu_kernels(self) -> bool:
        """Whether the kernels of a CPU compute most of it."""
        return getattr(self.mixer, "supports_cpu_kernels", False) is True

    def reset_parameters(self) -> None:
        """Draw new parameters."""
        for module in self.children():
            module.reset_parameters()  # type: ignore[operator]

    @property
    def num_encodes(self) -> int:
        """How often the mixer encodes, see `nn.stage.Stage`."""
        return self._stage.num_encodes

    @property
    def _stage(self) -> Stage:
        if self.local is not None:
            raise ValueError(f"{self._local_name()}, {_WHOLE}")
        if not is_stage(self.mixer):
            raise ValueError(
                f"the mixer {type(self.mixer).__name__} has no encode_rows, process "
                f"and decode_rows: it sees all points at once, {_WHOLE}"
            )
        return self.mixer

    def _local_name(self) -> str:
        name = type(self.local).__name__
        return f"the local layer {name} passes messages along edges"

    def encode_rows(
        self, x: Tensor, layout: PointBatch, latents: Latents = ()
    ) -> State:
        """Return the state that the mixer makes of points."""
        return self._stage.encode_rows(self.mixer_norm(x), layout, latents)

    def process(self, state: Any, latents: Latents = ()) -> Latents:
        """Return what the mixer makes of the state of each graph."""
        return self._stage.process(state, latents)

    def decode_rows(self, latents: Latents, x: Tensor, layout: PointBatch) -> Tensor:
        """Return the rows that leave the block."""
        y = self._stage.decode_rows(latents, self.mixer_norm(x), layout)
        return self._update(x, y)

    def forward(
        self,
        x: Tensor,
        batch: PointBatch | Tensor | None = None,
        group: "ProcessGroup | None" = None,
        edges: Mapping[str, Any] | None = None,
        *,
        step: Step | None = None,
        latents: Latents = (),
    ) -> Any:
        """Apply the block.

        Args:
            x: Features of the points.
            batch: Graph of each point, or the layout; handed to the mixer.
            group: Processes that hold the other points of these graphs, if there are
                any; handed to the mixer as `mixer(x, batch, group=group)`.
            edges: Keyword arguments of the local layer, such as `edge_index` and
                `edge_attr`. They number the rows of `x` as they are.
            step: One step of the block alone, see `nn.stage.Stage`.
            latents: What that step depends on.

        Returns:
            The features after the block, $[N, C]$; or what the step returns.

        Raises:
            ValueError: If there is a local layer without `edges` or with a `group`, or
                `edges` without a local layer.
        """
        if step is not None:
            layout = batch if isinstance(batch, PointBatch) else None
            return take_step(self, step, x, layout, latents)
        if (self.local is None) != (edges is None):
            raise ValueError(
                "the block has no local layer: leave edges out, or pass local="
                if self.local is None
                else f"{self._local_name()}: pass edges, such as "
                "edges={'edge_index': edge_index}"
            )
        if self.local is not None and edges is not None:
            if group is not None:
                raise ValueError(f"{self._local_name()}, {_WHOLE}")
            x = x + self.local(self.local_norm(x), **edges)
        shared = {} if group is None else {"group": group}
        return self._update(x, self.mixer(self.mixer_norm(x), batch, **shared))

    def _update(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Both residual steps, given what the mixer gives."""
        x = x + mixed
        y: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return y
