"""What a call of attention is, and what computes it.

Latents are $[1, H, M, D]$ of all graphs or $[B, H, M, D]$ of each. Points are rows
$[N, H, D]$ in the order of a layout, whose graphs have at least one point each here, or
dense batches $[B, H, N, D]$. A dense call is a ragged call whose graphs are of equal
size; `AttentionCall` gives a backend either form.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from torch_geometric_flare.functional.checks import log_weight
from torch_geometric_flare.functional.point_batch import PointBatch
from torch_geometric_flare.functional.state import SoftmaxState
from torch_geometric_flare.functional.torch_internals import (
    Tracing,
    are_addressable,
    has_autocast,
    tracing,
)
from torch_geometric_flare.kernels.tasks import RowTasks

Verb = Literal["attention", "encode", "decode", "self_attention"]


@dataclass(frozen=True, eq=False)
class AttentionCall:
    """All that the choice of a backend may depend on, collected once for each call.

    Args:
        verb: What is computed.
        shapes: Shapes of queries, keys and values.
        dtypes: Their dtypes.
        device: Where the keys are.
        addressable: Whether all are ordinary tensors in the memory of a CPU.
        scale: Factor on the scores.
        layout: The graphs of rows; `None` for a dense batch.
        mask: True where a point of a dense batch is real, $[B, N]$; `None` where all
            are.
        log_weight: Logarithm of what each point stands for, rows $[N]$ or $[B, N]$;
            `None` where all count alike, and to decode.
        tracing: What records the operations that run.
        autocast: Dtype of autocast on this device, if it is active.
    """

    verb: Verb
    shapes: tuple[torch.Size, torch.Size, torch.Size]
    dtypes: tuple[torch.dtype, torch.dtype, torch.dtype]
    device: torch.device
    addressable: bool
    scale: float
    layout: PointBatch | None
    mask: Tensor | None
    log_weight: Tensor | None
    tracing: Tracing
    autocast: torch.dtype | None

    @classmethod
    def of(
        cls,
        verb: Verb,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        scale: float,
        layout: PointBatch | None = None,
        mask: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> "AttentionCall":
        """Describe a call with these tensors."""
        if layout is not None:
            weight = layout.weight
        # A term that all latents share cancels in the softmax over them.
        logs = None
        if weight is not None and verb != "decode":
            logs = log_weight(weight)
        kind, autocast = k.device.type, None
        known = kind == "cpu" or has_autocast(kind)
        if known and torch.is_autocast_enabled(kind):
            autocast = torch.get_autocast_dtype(kind)
        return cls(
            verb,
            (q.shape, k.shape, v.shape),
            (q.dtype, k.dtype, v.dtype),
            k.device,
            are_addressable(q, k, v),
            scale,
            layout,
            mask,
            logs,
            tracing(),
            autocast,
        )

    @property
    def tasks(self) -> RowTasks:
        """The rows, cut for the kernels of a CPU."""
        if self.layout is not None:
            return self.layout.tasks
        batch, _, points, _ = self.shapes[1]
        return row_tasks((points,) * batch)

    def blocks(
        self, q: Tensor, k: Tensor, v: Tensor
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
        """Iterate over dense batches of q, k, v [B, H, n, D] and their masks.

        A mask [B, n] is true where a point is real; of weighted points it is what to
        add to their scores.
        """
        if self.layout is None:
            return iter([(q, k, v, additive_mask(self.mask, self.log_weight))])
        q_blocks = latent_blocks if self.verb != "self_attention" else point_blocks
        v_blocks = latent_blocks if self.verb == "decode" else point_blocks
        return zip(
            q_blocks(self.layout, q),
            point_blocks(self.layout, k),
            v_blocks(self.layout, v),
            self._masks(self.layout),
            strict=True,
        )

    def _masks(self, layout: PointBatch) -> list[Tensor | None]:
        masks = [dense.mask for dense in layout.dense_batches]
        if self.log_weight is None:
            return masks
        weights = layout.split(self.log_weight)
        return [additive_mask(*pair) for pair in zip(masks, weights, strict=True)]

    def join(self, blocks: Sequence[Tensor]) -> Tensor:
        """Return results of dense batches in the form of the call's points."""
        return blocks[0] if self.layout is None else join_blocks(self.layout, blocks)


def additive_mask(mask: Tensor | None, log_weight: Tensor | None) -> Tensor | None:
    """Join a mask of points and their log weights, minus infinity where masked."""
    if mask is None or log_weight is None:
        return mask if log_weight is None else log_weight
    return log_weight.masked_fill(~mask, -torch.inf)


row_tasks = lru_cache(maxsize=8)(RowTasks.from_sizes)


def point_blocks(layout: PointBatch, rows: Tensor) -> list[Tensor]:
    """Return rows in the order of the layout as [B, H, n, D] per dense batch."""
    return [block.transpose(1, 2) for block in layout.split(rows)]


def latent_blocks(layout: PointBatch, latents: Tensor) -> list[Tensor]:
    """Return latents in the order of the layout as [B, H, M, D] per dense batch."""
    counts = [len(dense.graphs) for dense in layout.dense_batches]
    if latents.size(0) == 1:
        return [latents.expand(count, -1, -1, -1) for count in counts]
    return list(latents.split(counts))


def join_blocks(layout: PointBatch, blocks: Sequence[Tensor]) -> Tensor:
    """Return [B, H, n, D] per dense batch as rows, the inverse of `point_blocks`."""
    return layout.join([block.transpose(1, 2) for block in blocks])


Compute = Callable[[AttentionCall, Tensor, Tensor, Tensor], Tensor]
Encode = Callable[[AttentionCall, Tensor, Tensor, Tensor], SoftmaxState]


@dataclass(frozen=True, eq=False)
class Backend:
    """A way of computing attention; all compute the same function.

    A new one is a file with an instance of this class, and a line in
    `choice.BACKENDS`. Each verb is called as `verb(call, q, k, v)`; to decode, `v` are
    the values of the latents.

    Args:
        name: What `attention_backend` takes.
        why_unsupported: Returns why a call cannot be computed, or is better left to
            the next backend; `None` if it can. It is not asked for a missing verb.
        attention: Encode and decode.
        encode: Gather points into the state of each graph.
        decode: Scatter latent values to points.
        self_attention: Softmax attention among the points of each graph.
    """

    name: str
    why_unsupported: Callable[[AttentionCall], str | None]
    attention: Compute | None = None
    encode: Encode | None = None
    decode: Compute | None = None
    self_attention: Compute | None = None


BlockCompute = Callable[[AttentionCall, Tensor, Tensor, Tensor, Tensor | None], Tensor]
BlockEncode = Callable[
    [AttentionCall, Tensor, Tensor, Tensor, Tensor | None], SoftmaxState
]


def on_blocks(function: BlockCompute) -> Compute:
    """Apply a function of a dense batch, `function(call, q, k, v, mask)`, to a call."""

    def compute(call: AttentionCall, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        blocks = call.blocks(q, k, v)
        return call.join([function(call, *block) for block in blocks])

    return compute


def encode_on_blocks(function: BlockEncode) -> Encode:
    """Apply a function of a dense batch that returns its state to a call."""

    def encode(call: AttentionCall, q: Tensor, k: Tensor, v: Tensor) -> SoftmaxState:
        blocks = call.blocks(q, k, v)
        return SoftmaxState.cat([function(call, *block) for block in blocks])

    return encode
