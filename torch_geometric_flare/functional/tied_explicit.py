"""Ragged FLARE attention by explicit scores, differentiable any number of times.

What second derivatives of the passes go by, and what tests hold the passes to.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from torch_geometric_flare.functional.state import LatentState
from torch_geometric_flare.functional.tasks import Tasks


def explicit_attention(
    q: Tensor, k: Tensor, v: Tensor, tasks: Tasks, scale: float
) -> Tensor:
    """`tied_attention` by explicit scores, differentiable any number of times."""
    z = explicit_encode(q, k, v, tasks, scale).value
    return explicit_decode(q, k, z, tasks, scale)


def _graphs(tasks: Tasks, q: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """The rows and the latents of each graph."""
    stop = 0
    for graph, size in enumerate(tasks.sizes):
        start, stop = stop, stop + size
        yield slice(start, stop), q[graph if q.size(0) > 1 else 0]


def explicit_encode(
    q: Tensor, k: Tensor, v: Tensor, tasks: Tasks, scale: float
) -> LatentState:
    """`tied_encode` by explicit scores, differentiable any number of times."""
    states = []
    for rows, latents in _graphs(tasks, q):
        scores = scale * torch.einsum("hmd,nhd->hmn", latents, k[rows])
        value = torch.einsum("hmn,nhd->hmd", scores.softmax(dim=-1), v[rows])
        states.append((value, scores.logsumexp(dim=-1)))
    values, lses = zip(*states, strict=True)
    return LatentState(torch.stack(values), torch.stack(lses))


def explicit_decode(
    q: Tensor, k: Tensor, z: Tensor, tasks: Tasks, scale: float
) -> Tensor:
    """`tied_decode` by explicit scores, differentiable any number of times."""
    return torch.cat(
        [
            torch.einsum(
                "nhm,hmd->nhd",
                (scale * torch.einsum("nhd,hmd->nhm", k[rows], latents)).softmax(-1),
                values,
            )
            for (rows, latents), values in zip(_graphs(tasks, q), z, strict=True)
        ]
    )
