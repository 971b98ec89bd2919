"""The description of an attention call, and the interface of attention backends.

Points are either rows $[N, H, D]$ in the order of a layout, or a dense batch
$[B, H, N, D]$. Latents are $[1, H, M, D]$, shared by all graphs, or $[B, H, M, D]$.
Empty graphs of a layout are removed before a backend is called, so here $B$ is the
number of non-empty graphs.
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
    """Properties of a call that determine its backend, collected once per call.

    Args:
        verb: The operation to compute.
        shapes: Shapes of queries, keys and values.
        dtypes: Dtypes of queries, keys and values.
        device: Device of the keys.
        addressable: Whether queries, keys and values are ordinary tensors in CPU
            memory, which a kernel can access by pointer.
        scale: Scaling factor of the scores.
        layout: Layout of the rows; `None` for a dense batch.
        mask: True for real points of a dense batch, $[B, N]$; `None` without padding
            and for rows.
        log_weight: Logarithm of the points' weights, $[N]$ for rows and $[B, N]$ for a
            dense batch; `None` without weights, and always for `"decode"`.
        tracing: The mechanism that traces operations, such as `torch.compile`.
        autocast: Dtype of autocast on this device; `None` if it is not active.
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
        """Collect the properties of a call."""
        if layout is not None:
            weight = layout.weight
        # A term shared by all latents cancels in the softmax over latents.
        logs = None
        if weight is not None and verb != "decode":
            logs = log_weight(weight)
        kind, autocast = k.device.type, None
        has_type = kind == "cpu" or has_autocast(kind)
        if has_type and torch.is_autocast_enabled(kind):
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
        """The rows, split into tasks for CPU kernels."""
        if self.layout is not None:
            return self.layout.tasks
        batch, _, points, _ = self.shapes[1]
        return row_tasks((points,) * batch)

    def blocks(
        self, q: Tensor, k: Tensor, v: Tensor
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
        """Iterate over dense batches of q, k, v [B, H, n, D] and masks of their points.

        A mask is `None` without padding and weights. Otherwise, it is [B, n]: boolean,
        true for real points, or, for weighted points, floats to add to their scores
        (minus infinity in the padding).
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
        """Return results of `blocks` in the input format: rows or a dense batch."""
        return blocks[0] if self.layout is None else join_blocks(self.layout, blocks)


def additive_mask(mask: Tensor | None, log_weight: Tensor | None) -> Tensor | None:
    """Return log weights, minus infinity where masked, or the mask without weights."""
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
    """Return [B, H, n, D] per dense batch as rows; the inverse of `point_blocks`."""
    return layout.join([block.transpose(1, 2) for block in blocks])


Compute = Callable[[AttentionCall, Tensor, Tensor, Tensor], Tensor]
Encode = Callable[[AttentionCall, Tensor, Tensor, Tensor], SoftmaxState]


@dataclass(frozen=True, eq=False)
class Backend:
    """An implementation of attention. All backends compute the same function.

    To add one, write a file with an instance of this class. Add it to `BACKENDS` in
    `choice.py` and to the list in the docstring of `attention_backend`. The tests of
    all backends then include it.

    A verb is called as `verb(call, q, k, v)`; for `decode`, `v` holds latent values.
    `on_blocks` and `encode_on_blocks` build one from a function of dense batches. Every
    verb satisfies:

    - It supports derivatives of any order, except under `torch.compile`.
    - If all keys of a query are masked, its result is zero and its log-sum-exp minus
      infinity, and all gradients are finite.
    - `decode` ignores the mask: every point attends to all latents, and padding rows
      are dropped.
    - `encode` computes in at least float32 (`state_dtype`), also under autocast.
    - The result for a graph does not depend on the other graphs of the batch.

    Args:
        name: Its name in `attention_backend`.
        why_unsupported: Returns the reason why the backend cannot or should not compute
            a call; `None` if it supports the call. Called only for verbs that the
            backend implements.
        attention: Encodes and decodes.
        encode: Gathers points into the state of each graph.
        decode: Scatters latent values to points.
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
    """Return a verb that applies `function(call, q, k, v, mask)` to `call.blocks`."""

    def compute(call: AttentionCall, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        blocks = call.blocks(q, k, v)
        return call.join([function(call, *block) for block in blocks])

    return compute


def encode_on_blocks(function: BlockEncode) -> Encode:
    """Return `encode` from a function that returns the state of a dense batch."""

    def encode(call: AttentionCall, q: Tensor, k: Tensor, v: Tensor) -> SoftmaxState:
        blocks = call.blocks(q, k, v)
        return SoftmaxState.cat([function(call, *block) for block in blocks])

    return encode
