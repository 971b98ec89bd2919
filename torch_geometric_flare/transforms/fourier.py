"""Fourier features of coordinates."""

import math

import torch
from torch import Tensor


def fourier_features(coordinates: Tensor, octaves: int) -> Tensor:
    r"""Return sines and cosines of coordinates, one pair per octave.

    $$\sin(\pi 2^k p), \quad \cos(\pi 2^k p), \qquad p = (c + 1) / 2, \quad
      k = 0, \dots, K - 1$$

    They help a network, which learns low frequencies first, to learn high frequencies.

    Args:
        coordinates: Coordinates $c$, scaled so that the domain is about $[-1, 1]$.
        octaves: Number of octaves $K$.

    Shapes:
        - `coordinates`: $[N, D]$

    Returns:
        All sines, then all cosines, octave by octave, $[N, 2 K D]$.

    Source:
        Tancik et al., Fourier Features Let Networks Learn High Frequency Functions in
        Low Dimensional Domains, [arXiv 2006.10739](https://arxiv.org/abs/2006.10739).
    """
    # Use double precision, because the error of the phase doubles with each octave.
    phase = (coordinates.double() + 1) * (math.pi / 2)
    phases = torch.cat([phase * 2**k for k in range(octaves)], dim=-1)
    return torch.cat([phases.sin(), phases.cos()], dim=-1).to(coordinates.dtype)
