"""Nyström attention, the mixer of Nyströmformer."""

import torch
from torch import Tensor

from torch_geometric_flare.functional.torch_internals import no_autocast
from torch_geometric_flare.nn.attention.full_attention import EqualSizeAttention
from torch_geometric_flare.nn.checks import check_positive
from torch_geometric_flare.nn.initialization import Init

_ITERATIONS = 6  # as in the paper


class NystromAttention(EqualSizeAttention):
    r"""Low-rank softmax attention with segment means as landmarks.

    From Nyströmformer, [arXiv 2102.03902](https://arxiv.org/abs/2102.03902). In each
    head, with $\tilde Q, \tilde K$ the means of $Q, K$ over $m$ segments of consecutive
    points,

    $$Y = \sigma(Q\tilde K^\top/\sqrt{D})\;A^+\;\sigma(\tilde QK^\top/\sqrt{D})\,V,
      \qquad A = \sigma(\tilde Q\tilde K^\top/\sqrt{D})$$

    and a linear map of $Y$ is the output. $A^+$ is approximated by six steps of $Z
    \leftarrow \tfrac14 Z(13 - AZ(15 - AZ(7 - AZ)))$ from $Z = A^\top/(\lVert
    A\rVert_1\lVert A\rVert_\infty)$. The published code also has an initialization with
    the largest $\lVert A\rVert_1$ of the whole batch; here, each matrix uses its own
    norm, so that graphs do not depend on each other. The convolution parallel to the
    attention is omitted. In a graph of fewer than $m$ points, each point is a landmark.

    The segments depend on the order of the points: reordering them changes the result.
    The cost is $O(Nm)$ per graph.

    Args:
        channels: Width $C$ of input and output.
        heads: Number of attention heads, each of width $D = C / H$.
        num_landmarks: Number of landmarks $m$ of each graph.
        init: Parameter initialization, `"scaled"` or `"paper"`, see
            `nn.initialization`.

    Shapes:
        - input: $[N, C]$, `batch` $[N]$
        - output: $[N, C]$

    Raises:
        ValueError: If a size is not positive, or `heads` does not divide `channels`.

    Examples:
        >>> from torch_geometric_flare.nn import NystromAttention
        >>> attention = NystromAttention(16, heads=4, num_landmarks=8)
        >>> batch = torch.tensor([0] * 30 + [1] * 70)
        >>> attention(torch.randn(100, 16), batch).shape
        torch.Size([100, 16])
    """

    def __init__(
        self,
        channels: int,
        heads: int = 8,
        num_landmarks: int = 64,
        init: Init = "scaled",
    ) -> None:
        super().__init__(channels, heads, 3, init)
        check_positive(num_landmarks=num_landmarks)
        self.num_landmarks = num_landmarks
        self.reset_parameters()

    def attend(self, maps: Tensor) -> Tensor:
        """Mix the points of graphs of equal size, see `EqualSizeAttention`."""
        dtype = maps.dtype
        # The iteration for the inverse needs at least float32.
        with no_autocast(maps.device.type):
            q, k, v = maps.to(torch.promote_types(dtype, torch.float32)).unbind(0)
            q = q * q.size(-1) ** -0.5
            q_landmarks, k_landmarks = self._landmarks(q), self._landmarks(k)
            inverse = _pseudo_inverse((q_landmarks @ k_landmarks.mT).softmax(-1))
            y = (q_landmarks @ k.mT).softmax(-1) @ v
            y = (q @ k_landmarks.mT).softmax(-1) @ (inverse @ y)
        mixed: Tensor = y.to(dtype)
        return mixed

    def _landmarks(self, x: Tensor) -> Tensor:
        """Return means of segments whose sizes differ by at most one."""
        points = x.size(-2)
        count = min(self.num_landmarks, points)
        segment = torch.arange(points, device=x.device) * count // points
        sizes = x.new_zeros(count).index_add(0, segment, x.new_ones(points))
        sums = x.new_zeros(*x.shape[:2], count, x.size(-1)).index_add(2, segment, x)
        return sums / sizes.unsqueeze(-1)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.channels}, heads={self.heads}, "
            f"num_landmarks={self.num_landmarks})"
        )


def _pseudo_inverse(a: Tensor) -> Tensor:
    # Entries are positive, so the norms are sums. Rows of a softmax sum to one.
    z = a.mT / a.sum(-2).amax(-1)[..., None, None]
    eye = torch.eye(a.size(-1), dtype=a.dtype, device=a.device)
    for _ in range(_ITERATIONS):
        az = a @ z
        z = z @ (13 * eye - az @ (15 * eye - az @ (7 * eye - az))) / 4
    return z
