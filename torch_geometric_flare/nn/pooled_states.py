"""One row of numbers for each graph: what its points left in every block."""

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
    """Return the mean of the latents' values in each block, for each graph.

    These numbers summarise a geometry as the network sees it, whatever the number of
    its points: similar shapes have similar rows. They do not depend on the order of the
    points, on batch-mates, chunks or processes.

    Args:
        model: A network whose blocks encode points to states, such as `FLARE`. Of a
            `FLAREQuery`, pass its `source`. Computes `model.chunk_size` points at a
            time.
        x: Features of the points, as `model` takes them.
        batch: Graph of each point, sorted; `None` for a single graph.
        batch_size: Number of graphs, where trailing ones may be empty.
        weight: What each point stands for.
        u: Conditions of each graph, as `model` takes them.
        group: Processes that hold the other points of these graphs.

    Shapes:
        - `x`: $[N, C]$
        - `batch`, `weight`: $[N]$
        - `u`: $[B, G]$

    Returns:
        $[B, S]$, where $S$ is the sum over the blocks of the width of a state over all
        heads, such as `num_layers * hidden_channels`.

    Raises:
        ValueError: If the blocks leave no states, or as the forward of `model`.

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
    """Return why a network leaves no states to pool, `None` if it does."""
    if not isinstance(model, Backbone):
        return "its points do not see each other through blocks: take one such as FLARE"
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
