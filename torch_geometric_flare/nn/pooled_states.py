"""One embedding per graph, pooled from the states of all blocks."""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_geometric_flare.functional import SumState
from torch_geometric_flare.nn.backbone import Backbone
from torch_geometric_flare.nn.checks import check_points
from torch_geometric_flare.nn.layout import Batch
from torch_geometric_flare.nn.streaming.stage import recorded_states

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


@torch.no_grad()
def pooled_states(
    model: Backbone,
    x: Tensor,
    batch: Batch = None,
    batch_size: int | None = None,
    *,
    weight: Tensor | None = None,
    u: Tensor | None = None,
    group: "ProcessGroup | None" = None,
) -> Tensor:
    """Return the mean latent values of each block for each graph.

    This vector embeds a geometry with any number of points: similar shapes have similar
    embeddings. It does not depend on the order of the points, on other graphs of the
    batch, on chunks or on processes.

    Args:
        model: A network whose blocks encode points to states, such as `FLARE`. For a
            `FLAREQuery`, pass its `source`. `model.chunk_size` points are processed at
            a time.
        x: Features of the points, the input of `model`.
        batch: Graph of each point, sorted; `None` for a single graph.
        batch_size: Number of graphs. Pass it if trailing graphs may be empty.
        weight: Weight of each point.
        u: Conditions of each graph, if `model` has any.
        group: Process group over which the points of these graphs are distributed.

    Shapes:
        - `x`: $[N, C]$
        - `batch`, `weight`: $[N]$
        - `u`: $[B, G]$

    Returns:
        $[B, S]$, where $S$ is the width of a state over all heads, summed over the
        blocks, such as `num_layers * hidden_channels`.

    Raises:
        ValueError: If the blocks have no states, or if the forward of `model` would
            raise it.

    Examples:
        >>> model = FLARE(3, 16, 1, num_layers=2, heads=4, num_latents=8)
        >>> pooled_states(model, torch.rand(100, 3)).shape
        torch.Size([1, 32])
    """
    reason = why_no_states(model)
    if reason is not None:
        raise ValueError(f"model is a {type(model).__name__}, and {reason}")
    check_points(x, model.in_channels)
    with recorded_states() as states:
        model(x, batch, batch_size, group, weight, u)
    if len(states) != len(model.blocks):
        # A block with its own forward may record no state. In chunks, all blocks do.
        model = copy.copy(model)
        model.chunk_size = max(1, x.size(-2))
        with recorded_states() as states:
            model(x, batch, batch_size, group, weight, u)
    return pool_states(model, states)


def pool_states(model: Any, states: Sequence[Any]) -> Tensor:
    """Return the same from the states that were recorded in a forward.

    Args:
        model: The network.
        states: As of `nn.streaming.stage.recorded_states`.

    Raises:
        ValueError: If they are not one for each block.
    """
    if len(states) != len(model.blocks):
        raise ValueError(
            f"{len(states)} states were recorded of the {len(model.blocks)} blocks of "
            f"{type(model).__name__}: pass the network itself, not compiled, and "
            "points that are not padded"
        )
    return torch.cat([_pool(state).flatten(1) for state in states], dim=1)


def why_no_states(model: Any) -> str | None:
    """Return why a network has no states to pool, `None` if it has."""
    if not isinstance(model, Backbone):
        return "its points do not interact through blocks: use a network such as FLARE"
    return model.why_unsupported("chunk_size")


def _pool(state: Any) -> Tensor:
    """Return the mean over the latents of a state, $[B, H, D]$."""
    if isinstance(state, SumState):
        value = state.total / torch.where(
            state.weight == 0, 1.0, state.weight
        ).unsqueeze(-1)
    else:
        value = state.value
    mean: Tensor = value.mean(dim=-2)
    return mean
