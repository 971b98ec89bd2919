"""All private PyTorch APIs that this package uses.

A PyTorch release may remove any of them. Each has a fallback here, which may be slower
or less convenient but gives the same results.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.functional import pad
from torch.nn.modules import module as modules


def _inactive() -> bool:
    """Report no active transform; `torch.func` then raises its own errors."""
    return False


def _no_modes() -> int:
    """Report no dispatch mode."""
    return 0


def _owns_memory(t: Tensor) -> bool:
    """Return whether a tensor has storage; gradients batched by vmap have none."""
    try:
        t.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return False
    return True


_are_transforms_active: Callable[[], bool] = getattr(
    torch._C, "_are_functorch_transforms_active", _inactive
)
_count_modes: Callable[[], int] = getattr(
    torch._C, "_len_torch_dispatch_stack", _no_modes
)
has_memory: Callable[[Tensor], bool] = getattr(torch._C, "_has_storage", _owns_memory)

_is_tracing: Callable[[], bool] = torch.jit.is_tracing  # type: ignore[attr-defined]
# Whether the CPU multiplies bfloat16 natively; emulation is many times slower.
CPU_COMPUTES_BF16: bool = getattr(torch.cpu, "_is_avx512_bf16_supported", _inactive)()

Tracing = Literal["none", "compile", "transform", "other"]

_FLASH = "_scaled_dot_product_flash_attention_for_cpu"
_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def tracing() -> Tracing:
    """Return which mechanism traces operations, if any.

    Returns:
        `"compile"` for `torch.compile`, which calls custom operators unchanged;
        `"transform"` for `torch.func` or forward-mode AD; `"other"` for
        `torch.export`, `torch.jit.trace` or a dispatch mode; `"none"` if operations
        run eagerly, so that kernels may access the memory of tensors.
    """
    if _are_transforms_active() or getattr(forward_ad, "_current_level", -1) >= 0:
        return "transform"
    if torch.compiler.is_compiling():
        return "other" if _is_exporting() or _is_tracing() else "compile"
    return "other" if _is_tracing() or _count_modes() > 0 else "none"


def is_transformed() -> bool:
    """Return whether a torch.func transform or forward-mode AD is active."""
    return _are_transforms_active() or getattr(forward_ad, "_current_level", -1) >= 0


def is_traced() -> bool:
    """Return whether operations are traced."""
    return tracing() != "none"


def _is_exporting() -> bool:
    """Return whether `torch.export` is active.

    In PyTorch 2.8, `torch.compiler.is_exporting` is also true under `torch.compile`.
    """
    if hasattr(torch.compiler, "_is_exporting_flag"):
        return bool(torch.compiler._is_exporting_flag)
    return torch.compiler.is_exporting()


def is_jit_traced() -> bool:
    """Return whether `torch.jit.trace` is active."""
    return not torch.compiler.is_compiling() and _is_tracing()


def has_autocast(kind: str) -> bool:
    """Return whether a device type supports autocast.

    PyTorch 2.8 cannot trace the query, so it is skipped for common types.
    """
    return kind in ("cpu", "cuda") or torch.amp.is_autocast_available(kind)


def no_autocast(kind: str) -> AbstractContextManager[Any]:
    """Disable autocast, because states need at least float32."""
    if not has_autocast(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)


def are_addressable(*tensors: Tensor | None) -> bool:
    """Return whether all tensors are ordinary tensors in CPU memory."""
    for t in tensors:
        if t is not None and (
            type(t) not in (Tensor, nn.Parameter)
            or t.device.type != "cpu"
            or t.layout != torch.strided
        ):
            return False
    return True


def any_hooks(called: Sequence[nn.Module]) -> bool:
    """Return whether calling any of the modules runs a hook."""
    for name in _HOOKS:
        if getattr(modules, f"_global{name}", None):
            return True
        for module in called:
            if getattr(module, name, None):
                return True
    return False


def has_cpu_flash() -> bool:
    """Return whether PyTorch has fused CPU attention that returns the log-sum-exp."""
    return hasattr(torch.ops.aten, _FLASH) and hasattr(
        torch.ops.aten, f"{_FLASH}_backward"
    )


def cpu_flash(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Return fused CPU attention and its log-sum-exp; `mask` is added to the scores."""
    kernel = getattr(torch.ops.aten, _FLASH)
    out, lse = kernel(q, k, v, 0.0, False, attn_mask=mask, scale=scale)
    return out, lse


def cpu_flash_backward(
    grad: Tensor,
    inputs: tuple[Tensor, Tensor, Tensor],
    out: Tensor,
    lse: Tensor,
    mask: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of `cpu_flash` for q, k and v."""
    kernel = getattr(torch.ops.aten, f"{_FLASH}_backward")
    grad_q, grad_k, grad_v = kernel(
        grad, *inputs, out, lse, 0.0, False, attn_mask=mask, scale=scale
    )
    return grad_q, grad_k, grad_v


def fused_with_lse(
    q: Tensor, k: Tensor, v: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Return fused attention and its log-sum-exp, on a CPU or on CUDA (untested)."""
    if q.device.type == "cpu":
        return cpu_flash(q, k, v, None, scale)
    kernel = torch.ops.aten._scaled_dot_product_efficient_attention
    out, lse, *_ = kernel(q, k, v, None, True, scale=scale)
    return out, lse[..., : q.size(-2)]


def fused_with_lse_backward(
    grad: Tensor,
    inputs: tuple[Tensor, Tensor, Tensor],
    out: Tensor,
    lse: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of `fused_with_lse` for q, k and v."""
    if grad.device.type == "cpu":
        return cpu_flash_backward(grad, inputs, out, lse, None, scale)
    kernel = torch.ops.aten._scaled_dot_product_efficient_attention_backward
    # The kernel reads whole tiles of 32 queries.
    lse = pad(lse, (0, -lse.size(-1) % 32), value=torch.inf)
    seed = offset = torch.zeros((), dtype=torch.long, device=grad.device)
    wanted = [True, True, True, False]
    grad_q, grad_k, grad_v, _ = kernel(
        grad, *inputs, None, out, lse, seed, offset, 0.0, wanted, scale=scale
    )
    return grad_q, grad_k, grad_v
