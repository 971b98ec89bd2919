"""Higher-order derivatives of this package's autograd functions."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from torch_geometric_flare.functional.torch_internals import has_memory, is_transformed


def any_requires_grad(*tensors: Tensor) -> bool:
    """Return whether autograd records operations on any of the tensors."""
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


def contiguous_rows(x: Tensor) -> Tensor:
    """Return `x` with a contiguous last dimension, as CPU kernels require."""
    x = x.resolve_neg()
    return x if x.stride(-1) == 1 else x.contiguous()


def needs_reference(*grads: Tensor) -> bool:
    """Return whether backward must use differentiable PyTorch operations.

    The gradients of a batched backward (`is_grads_batched=True`) have no storage.
    """
    return (
        torch.is_grad_enabled() or is_transformed() or not all(map(has_memory, grads))
    )


def differentiable_gradients(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    wanted: Sequence[bool],
    grad: Tensor,
) -> list[Tensor | None]:
    """Return the gradients of `function`, differentiable if backward records a graph.

    Args:
        function: A function composed of differentiable operations.
        inputs: Its arguments, with their autograd graphs.
        wanted: Whether each gradient is needed.
        grad: Gradient of the output.

    Returns:
        One gradient per input, `None` if it is not needed.
    """
    # Use views so that an input computed from another gets only its direct gradient.
    records_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        if records_graph:
            inputs = [t.view_as(t) for t in inputs]
        else:
            inputs = [t.detach().requires_grad_() for t in inputs]
        out = function(*inputs)
    gradients = iter(
        torch.autograd.grad(
            out,
            [t for t, want in zip(inputs, wanted, strict=True) if want],
            grad.to(out.dtype),
            create_graph=records_graph,
        )
    )
    return [next(gradients) if want else None for want in wanted]
