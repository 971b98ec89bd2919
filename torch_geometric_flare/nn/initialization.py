r"""Parameter initialization of networks: scaled, or as published.

The papers draw every weight from $\mathcal{N}(0, 0.02^2)$. A first layer with two or
three inputs then gives features of size 0.01. Each block receives almost the same
features at every point, both softmaxes are uniform, and the operator of a block is the
mean over the points, with one eigenvalue. `"scaled"` follows three rules:

- Maps from the input to the hidden features preserve its size: their weights are drawn
  from $\mathcal{U}(\pm 1/\sqrt{C_\text{in}})$.
- Attention scores have an initial standard deviation of about one.
- All other maps are residual and start small, as published.

`"paper"` is the published initialization.
"""

import math
from typing import Literal

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

Init = Literal["scaled", "paper"]
"""The parameter initialization of a network."""


def check_init(init: str) -> Init:
    """Validate and return the name of an initialization.

    Args:
        init: The name.

    Raises:
        ValueError: If it is neither `"scaled"` nor `"paper"`.
    """
    if init == "scaled":
        return "scaled"
    if init == "paper":
        return "paper"
    raise ValueError(f"init is {init!r}, expected 'scaled' or 'paper'")


def reset_carrying(module: nn.Module) -> None:
    r"""Draw the linear maps in a module from $\mathcal{U}(\pm 1/\sqrt{C_\text{in}})$.

    Biases become zero. Uninitialized lazy maps are skipped.

    Args:
        module: A map that should preserve the size of its input, such as the lift of a
            network.
    """
    for linear in module.modules():
        if not isinstance(linear, nn.Linear) or is_lazy(linear.weight):
            continue
        bound = 1 / math.sqrt(linear.in_features)
        nn.init.uniform_(linear.weight, -bound, bound)
        if linear.bias is not None:
            nn.init.zeros_(linear.bias)


def reset_scoring(linear: nn.Linear) -> None:
    r"""Draw a map to queries or keys from $\mathcal{N}(0, 1/C_\text{in})$; zero bias.

    With normalized features, queries, keys and the scores $q \cdot k / \sqrt{D}$ then
    have unit standard deviation.
    """
    nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)


def reset_latents(latents: Tensor, scale: float, init: Init) -> None:
    r"""Draw latents that are compared with normalized keys.

    Args:
        latents: The latents, $[H, M, D]$.
        scale: Scaling factor $s$ of the scores.
        init: `"paper"` draws from $\mathcal{N}(0, 0.1^2)$. `"scaled"` uses the standard
            deviation $1 / (|s| \sqrt{D})$ instead, so that scores have unit standard
            deviation.
    """
    nn.init.normal_(latents, std=0.1)
    if init == "scaled" and scale:
        latents.data.mul_(10 / (abs(scale) * math.sqrt(latents.size(-1))))
