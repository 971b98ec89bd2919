"""Noise that is a function of the position."""

import torch
from torch import Tensor

NUM_WAVES = 256
"""Number of waves $F$ in the noise."""
_BLOCK = 2**14  # points computed at a time


def smooth_noise(pos: Tensor, weights: Tensor) -> Tensor:
    r"""Return Gaussian fields of unit variance and a correlation length of one.

    $$\epsilon(p) = F^{-1/2} \sum_{f=1}^{F}
      a_f \cos(\omega_f \cdot p) + b_f \sin(\omega_f \cdot p)$$

    with fixed frequencies $\omega_f$ from Student's t distribution with three degrees
    of freedom, the spectrum of a Matérn covariance of smoothness 3/2.

    Args:
        pos: Where to evaluate the fields.
        weights: Standard normal numbers of $C$ fields, first $a$ and then $b$.

    Shapes:
        - `pos`: $[N, D]$
        - `weights`: $[2F, C]$, with $F$ = `NUM_WAVES`

    Returns:
        $[N, C]$

    Source:
        Rahimi and Recht, Random features for large-scale kernel machines, 2007.
    """
    generator = torch.Generator("cpu").manual_seed(0)
    numbers = torch.randn(
        *(NUM_WAVES, pos.size(1) + 3),
        generator=generator,
        dtype=torch.float64,
        device="cpu",
    )
    size = numbers[:, -3:].square().mean(1, keepdim=True).sqrt()
    waves = (numbers[:, :-3] / size).to(pos)
    weights = weights.to(pos) / NUM_WAVES**0.5
    parts = []
    # Autocast would round the phases.
    with torch.autocast(pos.device.type, enabled=False):
        for block in pos.split(_BLOCK):
            phase = block @ waves.T
            parts.append(torch.cat([phase.cos(), phase.sin()], dim=1) @ weights)
    return torch.cat(parts)
