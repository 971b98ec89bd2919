r"""How networks start: scaled so that they learn at once, or as published.

The papers draw every weight from $\mathcal{N}(0, 0.02^2)$. A first layer of two or
three inputs then gives features of size 0.01. Each block sees almost the same row at
every point, both softmaxes are uniform, and the operator of a block is the mean over
the points: it has one eigenvalue. `"scaled"` follows three rules:

- Maps that carry the input to the hidden features keep its size: their weights come
  from $\mathcal{U}(\pm 1/\sqrt{C_\text{in}})$.
- Scores of attention start with a standard deviation of about one.
- All other maps add to what they receive, and start small, as published.

`"paper"` draws the published start.
"""

import math
from typing import Literal

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

Init = Literal["scaled", "paper"]
"""How the parameters of a network start."""


def check_init(init: str) -> Init:
    """Return a name of a start.

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

    Biases become zero. A lazy map that has seen no input is left alone.

    Args:
        module: A map that carries its input on, such as the lift of a network.
    """
    for linear in module.modules():
        if not isinstance(linear, nn.Linear) or is_lazy(linear.weight):
            continue
        bound = 1 / math.sqrt(linear.in_features)
        nn.init.uniform_(linear.weight, -bound, bound)
        if linear.bias is not None:
            nn.init.zeros_(linear.bias)


def reset_scoring(linear: nn.Linear) -> None:
    r"""Draw a map to queries or keys from $\mathcal{N}(0, 1/C_\text{in})$; bias zero.

    Normalised features then give queries and keys of unit deviation, and scores
    $q \cdot k / \sqrt{D}$ of unit deviation.
    """
    nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)


def reset_latents(latents: Tensor, scale: float, init: Init) -> None:
    r"""Draw latents that score normalised keys.

    Args:
        latents: The latents, $[H, M, D]$.
        scale: Factor $s$ on the scores.
        init: `"paper"` draws from $\mathcal{N}(0, 0.1^2)$. `"scaled"` takes the
            deviation $1 / (|s| \sqrt{D})$ instead, so that scores have unit deviation.
    """
    nn.init.normal_(latents, std=0.1)
    if init == "scaled" and scale:
        latents.data.mul_(10 / (abs(scale) * math.sqrt(latents.size(-1))))
