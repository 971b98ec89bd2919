r"""A linear map and the tanh-approximated GELU after it, in one pass for inference.

torch's own CPU kernel for that GELU takes several times as long as the one for the
exact GELU; oneDNN computes it along with the product.
"""

import torch
from torch import Tensor

from torch_geometric_flare.functional.fused import is_traced

# A smaller product is done before the kernel is set up.
_LEAST_ELEMENTS = 1 << 16


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
    r"""$\mathrm{gelu}(xW^\top + b)$ in one pass where oneDNN has it, else `None`.

    It keeps nothing for a backward, so it serves inference alone.

    Args:
        x: Points.
        weight: $W$.
        bias: $b$.

    Shapes:
        - `x`: $[N, C]$
        - `weight`: $[C', C]$
        - `bias`: $[C']$

    Returns:
        $[N, C']$, or `None` where gradients are wanted or the kernel is missing.
    """
    if (
        is_traced()
        or torch.is_grad_enabled()
        or x.device.type != "cpu"
        or not x.dtype == weight.dtype == torch.float32
        or x.numel() < _LEAST_ELEMENTS
        or x.dim() != 2
        or torch.is_autocast_enabled("cpu")
        or not torch.backends.mkldnn.is_available()
        or not hasattr(torch.ops.mkldnn, "_linear_pointwise")
    ):
        return None
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu", [], "tanh")
    return y
