"""Softmax attention among all points of each graph."""

from torch import Tensor, nn

from torch_geometric_flare.functional import PointBatch, ragged_self_attention
from torch_geometric_flare.nn.attention.full_attention import FullAttention
from torch_geometric_flare.nn.checks import check_heads, check_positive
from torch_geometric_flare.nn.dense.residual_mlp import reset_linear
from torch_geometric_flare.nn.initialization import Init, check_init, reset_scoring


class SoftmaxAttention(FullAttention):
    r"""Multi-head self-attention among all points of each graph, at quadratic cost.

    From [arXiv 1706.03762](https://arxiv.org/abs/1706.03762). In each head of width
    $D$, with $Q, K, V$ three linear maps of $x$,

    $$Y = \mathrm{softmax}_N(QK^\top / \sqrt{D})\,V$$

    and a linear map of $Y$ is the output. Graphs of a batch do not interact. The cost
    is $O(N^2)$ per graph, the memory $O(N)$. Points do not interact through a mergeable
    state, so there is no `chunk_size`, no `group` and no `encode`.

    Args:
        channels: Width $C$ of input and output.
        heads: Number of attention heads, each of width $D = C / H$.
        init: Parameter initialization, `"scaled"` or `"paper"`, see
            `nn.initialization`.

    Shapes:
        - input: $[N, C]$, `batch` $[N]$
        - output: $[N, C]$

    Raises:
        ValueError: If a size is not positive, or `heads` does not divide `channels`.

    Examples:
        >>> attention = SoftmaxAttention(16, heads=4)
        >>> batch = torch.tensor([0] * 30 + [1] * 70)
        >>> attention(torch.randn(100, 16), batch).shape
        torch.Size([100, 16])
    """

    def __init__(
        self,
        channels: int,
        heads: int = 8,
        init: Init = "scaled",
    ) -> None:
        super().__init__()
        check_positive(channels=channels, heads=heads)
        check_heads(channels, heads, "channels")
        self.channels = channels
        self.heads = heads
        self.init = check_init(init)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset parameters."""
        reset_linear(self.qkv)
        if self.init == "scaled":
            reset_scoring(self.qkv)
        reset_linear(self.out)

    def mix_rows(self, x: Tensor, layout: PointBatch) -> Tensor:
        """Mix the points of each graph, see `FullAttention`."""
        width = self.channels // self.heads
        qkv = self.qkv(x).reshape(x.size(0), 3, self.heads, width)
        q, k, v = qkv.unbind(1)
        y = ragged_self_attention(q, k, v, layout, scale=width**-0.5)
        out: Tensor = self.out(y.flatten(-2))
        return out

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.channels}, heads={self.heads})"
