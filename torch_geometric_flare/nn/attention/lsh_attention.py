"""Attention among points with similar hashes, the mixer of Reformer."""

import torch
from torch import Tensor
from torch.nn import functional as F

from torch_geometric_flare.functional.torch_internals import no_autocast
from torch_geometric_flare.nn.attention.full_attention import EqualSizeAttention
from torch_geometric_flare.nn.checks import check_positive
from torch_geometric_flare.nn.initialization import Init

_SELF = -5e4  # score of a point with itself, as in the published code


class LSHAttention(EqualSizeAttention):
    r"""Softmax attention within chunks of points sorted by their hash.

    From Reformer, [arXiv 2001.04451](https://arxiv.org/abs/2001.04451). Queries $q$ and
    keys $k = q / |q|$ share one map. A round hashes each point of a graph to the bucket
    $\arg\max[qR, -qR]$ for a random $R$, sorts the points by bucket, and splits them
    into chunks of `attention_chunk` points. A point attends to its own chunk and the
    preceding one, across buckets, and to itself only if there is no other point. Rounds
    are merged by the log-sum-exp $z_r$ of their scores, $y = \sum_r e^{z_r}y_r / \sum_r
    e^{z_r}$; a pair that shares a chunk in several rounds counts in each. The first
    chunk has no preceding one; in the published code, it wraps around to the last.

    $R$ is drawn once from a fixed seed and saved. Points of one bucket keep their
    order, so reordering the points changes the result. The cost per graph and round is
    $O(N)$ plus a sort.

    Args:
        channels: Width $C$ of input and output.
        heads: Number of attention heads, each of width $D = C / H$.
        num_buckets: Number of buckets, even.
        attention_chunk: Number of points per chunk.
        num_rounds: Number of hashing rounds.
        init: Parameter initialization, `"scaled"` or `"paper"`, see
            `nn.initialization`.

    Shapes:
        - input: $[N, C]$, `batch` $[N]$
        - output: $[N, C]$

    Raises:
        ValueError: If a size is not positive, `num_buckets` is odd, or `heads` does not
            divide `channels`.

    Examples:
        >>> from torch_geometric_flare.nn import LSHAttention
        >>> attention = LSHAttention(16, heads=4, attention_chunk=8)
        >>> batch = torch.tensor([0] * 30 + [1] * 70)
        >>> attention(torch.randn(100, 16), batch).shape
        torch.Size([100, 16])
    """

    rotations: Tensor

    def __init__(
        self,
        channels: int,
        heads: int = 8,
        num_buckets: int = 32,
        attention_chunk: int = 64,
        num_rounds: int = 4,
        init: Init = "scaled",
    ) -> None:
        super().__init__(channels, heads, 2, init)
        check_positive(
            num_buckets=num_buckets,
            attention_chunk=attention_chunk,
            num_rounds=num_rounds,
        )
        if num_buckets % 2:
            raise ValueError(f"num_buckets is {num_buckets}, expected an even number")
        self.num_buckets = num_buckets
        self.attention_chunk = attention_chunk
        self.num_rounds = num_rounds
        shape = num_rounds, heads, channels // heads, num_buckets // 2
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("rotations", torch.randn(shape, generator=generator))
        self.reset_parameters()

    def attend(self, maps: Tensor) -> Tensor:
        """Mix the points of graphs of equal size, see `EqualSizeAttention`."""
        dtype = maps.dtype
        with no_autocast(maps.device.type):
            q, v = maps.to(torch.promote_types(dtype, torch.float32)).unbind(0)
            rounds = [self._round(q, v, r.to(q.dtype)) for r in self.rotations]
            lse = torch.stack([z for _, z in rounds])
            weights = lse.softmax(0).unsqueeze(-1)
            y = (weights * torch.stack([y for y, _ in rounds])).sum(0)
        return y.to(dtype)

    def _round(self, q: Tensor, v: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
        """Return the values of one round [B, H, N, D] and their log-sum-exp."""
        points, size = q.size(-2), self.attention_chunk
        rotated = q.detach() @ rotation
        buckets = torch.cat([rotated, -rotated], dim=-1).argmax(-1)
        order = buckets.argsort(dim=-1, stable=True)
        places = order.unsqueeze(-1).expand_as(q)
        padding = (0, 0, 0, -points % size)
        shape = (-1, size)  # [B, H, chunks, size, D]
        q, v = (F.pad(t.gather(2, places), padding).unflatten(2, shape) for t in (q, v))
        # Avoids `norm`, which has no finite gradient at the zeros of padded rows.
        k = q * (q.square().sum(-1, keepdim=True) + 1e-12).rsqrt()
        k, v = (torch.cat([t, _before(t)], dim=3) for t in (k, v))
        scores = (q * q.size(-1) ** -0.5) @ k.mT
        place = torch.arange(q.size(2) * size, device=q.device).view(-1, size)
        keys = torch.cat([place, place - size], dim=-1)[:, None]
        scores = scores.masked_fill(place[..., None] == keys, _SELF)
        scores = scores.masked_fill((keys < 0) | (keys >= points), -torch.inf)
        lse = scores.logsumexp(-1)
        y = (scores - lse.unsqueeze(-1)).exp() @ v
        y, lse = y.flatten(2, 3)[:, :, :points], lse.flatten(2, 3)[:, :, :points]
        inverse = order.argsort(dim=-1)
        return y.gather(2, inverse.unsqueeze(-1).expand_as(y)), lse.gather(2, inverse)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.channels}, heads={self.heads}, "
            f"num_buckets={self.num_buckets}, attention_chunk={self.attention_chunk}, "
            f"num_rounds={self.num_rounds})"
        )


def _before(x: Tensor) -> Tensor:
    """Return the preceding chunk of each chunk; zeros for the first."""
    return torch.cat([torch.zeros_like(x[:, :, :1]), x[:, :, :-1]], dim=2)
