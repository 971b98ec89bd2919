"""Validation of tensor arguments, shared by all functions."""

from typing import Any

import torch
from torch import Tensor

from torch_geometric_flare._arguments import brief
from torch_geometric_flare.functional.torch_internals import has_autocast


def check_given(**tensors: Tensor | None) -> None:
    """Raise unless all tensors are given, on one device and of one dtype.

    Args:
        **tensors: Arguments of the caller by name.

    Raises:
        TypeError: If one is `None` or fails `check_strided`.
        ValueError: If one is on another device than the first, or, without autocast,
            of another dtype.
    """
    check_strided(**tensors)
    first = ""
    for name, t in tensors.items():
        if t is None:
            raise TypeError(f"{name} is None, expected a torch.Tensor")
        first = first or name
        other = tensors[first]
        assert other is not None
        if t.device != other.device:
            raise ValueError(
                f"{name} is on {t.device}, but {first} on {other.device}: move one"
            )
        kind = t.device.type
        casts = has_autocast(kind) and torch.is_autocast_enabled(kind)
        if t.dtype != other.dtype and not casts:
            raise ValueError(
                f"{name} is {t.dtype}, but {first} is {other.dtype}: pass "
                f"{name}.to({first}.dtype)"
            )


def check_scale(scale: Any) -> None:
    """Raise `TypeError` unless the scale of the scores is a Python number.

    Fused attention would replace `None` by its default and fails on NumPy scalars.
    """
    numbers = (int, float, torch.SymInt, torch.SymFloat)
    if isinstance(scale, bool) or not isinstance(scale, numbers):
        raise TypeError(f"scale is {brief(scale)}, expected a float")


def check_weight(weight: Any, shape: tuple[int, ...], device: torch.device) -> None:
    """Raise unless weights are finite, nonnegative and of the right shape.

    Args:
        weight: Weight of each point.
        shape: Expected shape.
        device: Device of the points.

    Raises:
        TypeError: If it is not a floating-point tensor.
        ValueError: If it has another shape, is on another device, or holds a negative
            or non-finite number.
    """
    check_strided(weight=weight)
    if weight.shape != shape:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}, expected {tuple(shape)}: one "
            "number for each point, such as its share of the surface"
        )
    if weight.device != device:
        raise ValueError(
            f"weight is on {weight.device}, but the points on {device}: move one"
        )
    if torch.compiler.is_compiling():
        return  # a traced program cannot branch on values
    wrong = ~((weight >= 0) & (weight < torch.inf))
    if bool(wrong.any()):
        raise ValueError(
            f"weight holds {weight[wrong][0].item()}, expected finite, nonnegative "
            "numbers; a point with weight 0 does not contribute to other points"
        )


def cast_weight(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return weights in another dtype; raise `ValueError` if it cannot hold them.

    Args:
        weight: Weight of each point.
        dtype: The dtype.
    """
    cast = weight.to(dtype)
    narrowed = dtype != weight.dtype and not torch.compiler.is_compiling()
    if narrowed and bool(cast.isinf().any() | (weight.any() & ~cast.any())):
        raise ValueError(
            f"weight holds {weight.max().item()}, which {dtype} cannot represent: "
            "divide all weights by their mean"
        )
    return cast


def check_condition_rows(u: Any, num_graphs: int, device: torch.device) -> None:
    """Raise unless conditions hold one row per graph.

    Args:
        u: Conditions of each graph.
        num_graphs: Number of graphs.
        device: Device of the points.

    Raises:
        TypeError: If it is not a floating-point tensor.
        ValueError: If it has another shape or is on another device.
    """
    check_strided(u=u)
    if u.dim() != 2 or u.size(0) != num_graphs:
        raise ValueError(
            f"u has shape {tuple(u.shape)}, expected [{num_graphs}, G]: one row of "
            "conditions per graph, [1, G] for a single graph"
        )
    if u.device != device:
        raise ValueError(f"u is on {u.device}, but the points on {device}: move one")


def log_weight(weight: Tensor) -> Tensor:
    """Return the logarithm of weights, minus infinity for zero.

    Args:
        weight: Weight of each point, already validated.

    Raises:
        ValueError: If a weight of zero requires a gradient, which would be NaN.
    """
    needs = weight.requires_grad and not torch.compiler.is_compiling()
    if needs and bool((weight == 0).any()):
        raise ValueError(
            "weight holds 0 and requires a gradient, but its logarithm is used: pass "
            "weight.detach(), or weight + 1e-30"
        )
    return weight.log()


def check_strided(**tensors: Tensor | None) -> None:
    """Raise unless arguments are dense floating-point tensors.

    Args:
        **tensors: Arguments of the caller by name; `None` is skipped.

    Raises:
        TypeError: If one is not a floating-point tensor.
        ValueError: If one does not have the layout `torch.strided`.
    """
    for name, t in tensors.items():
        if t is None:
            continue
        if not isinstance(t, Tensor):
            raise TypeError(
                f"{name} is {brief(t)}, expected a torch.Tensor: pass "
                f"torch.as_tensor({name}, dtype=torch.float32)"
            )
        if not t.is_floating_point():
            raise TypeError(
                f"{name} is {t.dtype}, expected floating-point numbers: pass "
                f"{name}.float()"
            )
        if t.layout != torch.strided:
            raise ValueError(
                f"{name} has layout {t.layout}, expected torch.strided: pass "
                f"{name}.to_dense()"
            )
