"""Run modules on padded graphs with a mask, also under tracing."""

from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor

from torch_geometric_flare.functional.checks import (
    check_condition_rows,
    check_strided,
    check_weight,
)
from torch_geometric_flare.functional.torch_internals import is_traced
from torch_geometric_flare.nn.checks import check_conditions, check_points

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def refuse_script(module: Any) -> NoReturn:
    """Raise `TypeError`; used as `__prepare_scriptable__` of modules."""
    raise TypeError(
        f"torch.jit.script cannot compile {type(module).__name__}: use "
        "torch.export.export or torch.compile"
    )


def forward_padded(
    module: Any,
    x: Tensor,
    mask: Any,
    batch_size: int | None,
    group: "ProcessGroup | None",
    weight: Tensor | None = None,
    u: Tensor | None = None,
) -> Tensor:
    r"""Call a network or an operator on padded graphs.

    In eager mode, the real points are selected, so padding has no cost. Under
    `torch.compile` and `torch.export`, the number of real points is unknown, so the
    padded tensor is passed to `mix_padded` of operators that define it.

    Args:
        module: A `Backbone` or a `PointMixer`.
        x: Features of the points, with any values in the padding.
        mask: True for real points.
        batch_size: Number of graphs, or `None`.
        group: Processes that hold the other points of these graphs, or `None`.
        weight: Weight of each point, with any values in the padding.
        u: Conditions of each graph.

    Shapes:
        - `x`: $[B, N, C]$
        - `mask`: $[B, N]$, `torch.bool`
        - `weight`: $[B, N]$
        - `u`: $[B, G]$

    Returns:
        $[B, N, C']$, zero in the padding.

    Raises:
        ValueError: If the shapes do not fit, there is no mask, or a traced module has
            no `mix_padded` or uses chunks or a process group.
    """
    _check(x, mask, module.in_channels, batch_size)
    conditions = {} if u is None else {"u": u}
    if not is_traced():
        graph = mask.nonzero()[:, 0]
        if weight is not None:
            check_weight(weight, mask.shape, x.device)
            weight = weight[mask]
        rows = module.forward(x[mask], graph, mask.size(0), group, weight, **conditions)
        y: Tensor = rows.new_zeros(*mask.shape, rows.size(-1))
        y[mask] = rows
        return y
    whole = {"chunk_size": module.chunk_size, "group": group, "weight": weight}
    for name, value in whole.items():
        if value is not None:
            raise ValueError(
                f"{name} is not supported for traced padded graphs: pass None"
            )
    check_points(x.flatten(0, 1), module.in_channels)
    padding = ~mask.unsqueeze(-1)
    if u is not None:
        check_condition_rows(u, mask.size(0), x.device)
    check_conditions(module, u)
    y = _forward_block(module, x.masked_fill(padding, 0), mask, **conditions)
    return y.masked_fill(padding, 0)


def _forward_block(
    module: Any, x: Tensor, mask: Tensor, **conditions: Tensor
) -> Tensor:
    """Compute all rows of a padded block, including the padding."""
    blocks = getattr(module, "blocks", None)
    mixers = [module] if blocks is None else [getattr(b, "mixer", None) for b in blocks]
    if not all(hasattr(mixer, "mix_padded") for mixer in mixers):
        raise ValueError(
            f"{type(module).__name__} cannot be traced with a mask: pass the rows "
            "[N, C] of a single graph, or use FLARE or FLAREConv"
        )
    if blocks is None:
        mixed: Tensor = module.mix_padded(x, mask, **conditions)
        return mixed
    y: Tensor = module.run_blocks(x, mask, **conditions)
    return y


def _check(x: Tensor, mask: Any, channels: int, batch_size: int | None) -> None:
    check_strided(x=x)
    if x.dim() != 3:
        raise ValueError(
            f"batch is a mask, but x has shape {tuple(x.shape)}, expected "
            f"[B, N, {channels}]; for rows [N, {channels}] pass graph indices"
        )
    if mask is None:
        raise ValueError(
            f"x has shape {tuple(x.shape)} but batch is None: pass a mask [B, N] that "
            "is True for real points, as to_dense_batch returns it, or rows "
            f"[N, {channels}]"
        )
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = f"{mask.dtype}" if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(
            f"x has shape {tuple(x.shape)} but batch is a {kind}: expected a mask "
            "[B, N] of torch.bool, or rows [N, C] with graph indices"
        )
    if mask.shape != x.shape[:2]:
        raise ValueError(
            f"batch is a mask of shape {tuple(mask.shape)}, expected "
            f"{tuple(x.shape[:2])} as in x"
        )
    if batch_size is not None and batch_size != x.size(0):
        raise ValueError(f"batch_size is {batch_size}, but x holds {x.size(0)} graphs")
