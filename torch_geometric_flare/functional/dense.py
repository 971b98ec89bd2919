"""The three verbs of FLARE attention on a dense batch, by a chosen backend."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torch_geometric_flare.functional.backend import AttentionBackend
from torch_geometric_flare.functional.definition import (
    attention_by_definition,
    decode_by_definition,
    encode_by_definition,
    key_mask,
)
from torch_geometric_flare.functional.sdpa import fused_attention, fused_encode
from torch_geometric_flare.functional.split_keys import gpu_splits, split_attention
from torch_geometric_flare.functional.state import SoftmaxState
from torch_geometric_flare.functional.torch_internals import has_autocast


class Choice(NamedTuple):
    """What was chosen.

    Args:
        backend: The way of all graphs, or of those that `fits` names.
        fits: Graphs of the layout, by their place in `sequence`, that `backend` can
            compute; the others take SDPA. `None` if it can compute all.
        traced: Whether only operations of torch may be used.
    """

    backend: AttentionBackend
    fits: list[bool] | None = None
    traced: bool = False


def dense_attention(
    choice: Choice, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> Tensor:
    """Compute `flare_attention` by the definition or by two fused calls."""
    if choice.backend is AttentionBackend.DEFINITION:
        return attention_by_definition(q, k, v, mask, scale)
    splits = 1 if choice.traced or mask is not None else gpu_splits(q, k, v)
    if splits > 1:
        z = split_attention(q, k, v, scale, splits)
    else:
        z = fused_attention(q, k, v, key_mask(mask), scale, choice.traced)
    return fused_attention(k, q, z, None, scale, choice.traced)


def dense_encode(
    choice: Choice, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> SoftmaxState:
    """Compute `flare_encode` by the definition or by a fused call."""
    with no_autocast(q.device.type):
        if choice.backend is AttentionBackend.DEFINITION:
            return encode_by_definition(q, k, v, mask, scale)
        return fused_encode(q, k, v, mask, scale)


def dense_decode(
    choice: Choice, q: Tensor, k: Tensor, z: Tensor, scale: float
) -> Tensor:
    """Compute `flare_decode` by the definition or by a fused call."""
    if choice.backend is AttentionBackend.DEFINITION:
        return decode_by_definition(q, k, z, scale)
    return fused_attention(k, q, z, None, scale, choice.traced)


def no_autocast(kind: str) -> AbstractContextManager[Any]:
    """Leave autocast: states need single precision at least."""
    if not has_autocast(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)
