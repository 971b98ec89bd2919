"""The residual block that every surrogate of this package is stacked from."""

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from torch_geometric_flare.functional import LatentState, PointBatch
from torch_geometric_flare.nn.streaming import decode_chunks, encode_chunks

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class ResidualBlock(nn.Module):
    r"""A pre-norm residual block: a mixer of points, then a pointwise map.

    $$x \leftarrow x + \mathrm{mixer}(\mathrm{LN}(x)), \qquad
      x \leftarrow x + \mathrm{feedforward}(\mathrm{LN}(x))$$

    Args:
        channels: Width of the features.
        mixer: Called as `mixer(x, batch)`; the only part that sees several points.
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

    def stream(
        self,
        x: Tensor,
        layout: PointBatch,
        size: int,
        group: "ProcessGroup | None" = None,
    ) -> Tensor:
        """As `forward`, in chunks of points; the mixer must `encode` and `decode`.

        Args:
            x: Features of the points, in the batch's own order.
            layout: The graphs.
            size: Points of a chunk.
            group: Processes that hold the other points of these graphs.
        """
        mixer: Any = self.mixer

        def encode(part: Tensor, layout: PointBatch) -> LatentState:
            state: LatentState = mixer.encode(self.mixer_norm(part), layout)
            return state

        def decode(state: LatentState, part: Tensor, layout: PointBatch) -> Tensor:
            part = part + mixer.decode(state, self.mixer_norm(part), layout)
            y: Tensor = part + self.feed_forward(self.feed_forward_norm(part))
            return y

        state = encode_chunks(encode, x, layout, size, group, module=self)
        return decode_chunks(decode, state, x, layout, size, module=self)

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
        x = x + self.mixer(self.mixer_norm(x), batch, **shared)
        y: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return y
