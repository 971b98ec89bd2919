"""The Latent Neural Operator."""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from torch_geometric_flare.functional import (
    PointBatch,
    SoftmaxState,
    distributed_merge,
    ragged_softmax_encode,
    ragged_sum_decode,
)
from torch_geometric_flare.nn.backbone import Backbone
from torch_geometric_flare.nn.checks import check_heads, check_positive
from torch_geometric_flare.nn.dense.latent_block import LatentBlock
from torch_geometric_flare.nn.dense.residual_mlp import ResidualMLP
from torch_geometric_flare.nn.streaming.stage import Latents, record_state

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class LNO(Backbone):
    r"""The Latent Neural Operator: an encoder, a transformer on modes, a decoder.

    From [arXiv 2406.03923](https://arxiv.org/abs/2406.03923). One set of scores $S$
    maps from the points to $M$ modes and back,

    $$S = \mathrm{score}(\mathrm{trunk}(x)), \qquad
      Z = \mathrm{softmax}_N(S)^\top\,\mathrm{branch}(x), \qquad
      Z \leftarrow \mathrm{block}_i(Z), \qquad
      y = \mathrm{head}(\mathrm{softmax}_M(S)\,Z)$$

    where the blocks are those of a transformer and the other maps are residual MLPs
    with the exact GELU. The cost is $O(NM)$ once per network and $O(M^2)$ per block.
    The network has no norms of points, so it does not support conditions `u`. The
    paper's trunk takes coordinates and its branch takes inputs; here, both take `x`.

    Args:
        in_channels: Width of the input.
        hidden_channels: Width of the hidden features.
        out_channels: Number of fields to predict.
        num_layers: Number of transformer blocks on the modes.
        heads: Number of attention heads of each block.
        num_modes: Number of modes $M$.
        mlp_layers: Number of residual hidden layers of trunk, branch, score and head.
        mlp_ratio: Hidden width of each block's MLP divided by `hidden_channels`.
        chunk_size: Number of points to process at a time in forward and backward, with
            the same result; `None` for all at once. Can be set on an existing model.

    Shapes:
        - input: $[N, C_\text{in}]$, `batch` $[N]$
        - output: $[N, C_\text{out}]$

    Raises:
        ValueError: If a size is not positive, `mlp_layers` is negative, or `heads`
            does not divide `hidden_channels`.

    Examples:
        >>> model = LNO(3, 32, 1, num_layers=2, heads=4, num_modes=16)
        >>> model(torch.randn(500, 3)).shape
        torch.Size([500, 1])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_layers: int = 4,
        heads: int = 8,
        num_modes: int = 256,
        mlp_layers: int = 2,
        mlp_ratio: int = 2,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        check_positive(
            in_channels=in_channels,
            hidden_channels=hidden_channels,
            out_channels=out_channels,
            num_layers=num_layers,
            heads=heads,
            num_modes=num_modes,
            mlp_ratio=mlp_ratio,
            chunk_size=chunk_size,
        )
        if mlp_layers < 0:
            raise ValueError(f"mlp_layers is {mlp_layers}, expected 0 or more")
        check_heads(hidden_channels, heads)
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels
        self.out_channels = out_channels
        self.num_layers = num_layers
        self.heads = heads
        self.num_modes = num_modes
        self.mlp_layers = mlp_layers
        self.mlp_ratio = mlp_ratio
        self.chunk_size = chunk_size

        width = hidden_channels
        # The lift is the identity, so that chunks save only the inputs of points.
        self.lift = nn.Identity()
        self.blocks = nn.ModuleList(
            [
                _ModeStage(
                    trunk=_mlp(in_channels, width, width, mlp_layers),
                    branch=_mlp(in_channels, width, width, mlp_layers),
                    score=_mlp(width, width, num_modes, mlp_layers),
                    blocks=[
                        LatentBlock(
                            width, heads, mlp_ratio * width, nn.GELU(), init="paper"
                        )
                        for _ in range(num_layers)
                    ],
                )
            ]
        )
        self.norm = nn.Identity()
        self.head = _mlp(width, width, out_channels, mlp_layers)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset parameters to PyTorch's defaults, which preserve the size of inputs."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.LayerNorm):
                module.reset_parameters()

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.in_channels}, {self.hidden_channels}, "
            f"{self.out_channels}, num_layers={self.num_layers}, heads={self.heads}, "
            f"num_modes={self.num_modes})"
        )


class _ModeStage(nn.Module):
    """The encoder, the transformer blocks on the modes, and the decoder."""

    num_encodes = 1
    input_maps = ("trunk", "branch")

    def __init__(
        self,
        trunk: ResidualMLP,
        branch: ResidualMLP,
        score: ResidualMLP,
        blocks: list[LatentBlock],
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.branch = branch
        self.score = score
        self.blocks = nn.ModuleList(blocks)

    def encode_rows(
        self, x: Tensor, layout: PointBatch, latents: Latents = ()
    ) -> SoftmaxState:
        """Gather points into modes: value [B, 1, M, C], log-sum-exp [B, 1, M]."""
        return self._encode(self._scores(x), x, layout)

    def process(self, state: SoftmaxState, latents: Latents = ()) -> Latents:
        """Let the modes of each graph attend to each other, [B, 1, M, C]."""
        weight = next(self.blocks.parameters())
        z = state.value.squeeze(1).to(weight.dtype)
        for block in self.blocks:
            z = block(z)
        return (z.unsqueeze(1),)

    def decode_rows(self, latents: Latents, x: Tensor, layout: PointBatch) -> Tensor:
        """Average the modes of its graph at each point."""
        return self._decode(latents, self._scores(x), layout)

    def forward(
        self,
        x: Tensor,
        layout: PointBatch,
        group: "ProcessGroup | None" = None,
    ) -> Tensor:
        """Run all steps on all points of this process at once."""
        scores = self._scores(x)
        state = distributed_merge(self._encode(scores, x, layout), group)
        record_state(state)
        return self._decode(self.process(state), scores, layout)

    def _scores(self, x: Tensor) -> Tensor:
        """Return the scores of points and modes, [N, M]."""
        scores: Tensor = self.score(self.trunk(x))
        return scores

    def _encode(self, scores: Tensor, x: Tensor, layout: PointBatch) -> SoftmaxState:
        values = self.branch(x).unsqueeze(1)
        return ragged_softmax_encode(scores.unsqueeze(1), values, layout)

    def _decode(self, latents: Latents, scores: Tensor, layout: PointBatch) -> Tensor:
        weights = scores.softmax(dim=-1).unsqueeze(1)
        return ragged_sum_decode(weights, latents[0], layout).squeeze(1)


def _mlp(
    in_channels: int, hidden_channels: int, out_channels: int, num_layers: int
) -> ResidualMLP:
    """Return an MLP with the exact GELU; only its hidden layers are residual."""
    return ResidualMLP(
        in_channels,
        hidden_channels,
        out_channels,
        num_layers,
        nn.GELU(),
        input_residual=False,
        output_residual=False,
    )
