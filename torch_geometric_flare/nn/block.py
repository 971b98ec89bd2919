"""The residual block that every surrogate of this package is stacked from."""

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from torch_geometric_flare.functional import PointBatch, State
from torch_geometric_flare.nn.stage import Latents, Stage, is_stage

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class ResidualBlock(nn.Module):
    r"""A pre-norm residual block: a mixer of points, then a pointwise map.

    $$x \leftarrow x + \mathrm{mixer}(\mathrm{LN}(x)), \qquad
      x \leftarrow x + \mathrm{feedforward}(\mathrm{LN}(x))$$

    Args:
        channels: Width of the features.
        mixer: Called as `mixer(x, batch)`; the only part that sees several points.
            With the methods of a `PointMixer` the block runs in chunks, on points
            spread over processes, and from file to file as well.
        feed_forward: Called as `feed_forward(x)`, on each point by itself.

    Shapes:
        - input: $[N, C]$
        - output: $[N, C]$
    """

    def __init__(
        self, channels: int, mixer: nn.Module, feed_forward: nn.Module
    ) -> None:
        super().__init__()
        self.mixer_norm = nn.LayerNorm(channels)
        self.mixer = mixer
        self.feed_forward_norm = nn.LayerNorm(channels)
        self.feed_forward = feed_forward

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
        if not is_stage(self.mixer):
            raise ValueError(
                f"the mixer {type(self.mixer).__name__} has no encode_rows, process "
                "and decode_rows: it sees all points at once, so it cannot run in "
                "chunks, on points spread over processes, or from file to file"
            )
        return self.mixer

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
    ) -> Tensor:
        """Apply the block.

        Args:
            x: Features of the points.
            batch: Graph of each point, or the layout; handed to the mixer.
            group: Processes that hold the other points of these graphs, if there are
                any; handed to the mixer as `mixer(x, batch, group=group)`.
        """
        shared = {} if group is None else {"group": group}
        return self._update(x, self.mixer(self.mixer_norm(x), batch, **shared))

    def _update(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Both residual steps, given what the mixer gives."""
        x = x + mixed
        y: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return y
