"""Ranks of operators, computed from their eigenvalues."""

import torch
from torch import Tensor


def stable_rank(values: Tensor) -> Tensor:
    r"""Return $\sum_i \lambda_i$, the number of transmitted patterns.

    Args:
        values: Eigenvalues.

    Shapes:
        - `values`: $[\ldots, M]$

    Returns:
        $[\ldots]$, from 1 to $M$.
    """
    return values.sum(dim=-1)


def effective_rank(values: Tensor) -> Tensor:
    r"""Return $e^{H(p)}$ of the shares $p = \lambda / \sum \lambda$.

    Args:
        values: Eigenvalues, nonnegative up to rounding.

    Shapes:
        - `values`: $[\ldots, M]$

    Returns:
        $[\ldots]$, from 1 to $M$; 0 if all eigenvalues are zero, as without points.
    """
    total = values.clamp_min(0).sum(dim=-1, keepdim=True)
    shares = values.clamp_min(0) / torch.where(total == 0, 1.0, total)
    rank: Tensor = torch.special.entr(shares).sum(dim=-1).exp()
    return torch.where(total.squeeze(-1) == 0, 0.0, rank)


def share_rank(values: Tensor, share: float = 0.95) -> Tensor:
    r"""Return how many of the largest eigenvalues make up a share of their sum.

    Args:
        values: Eigenvalues in descending order, nonnegative up to rounding.
        share: The share, from 0 to 1.

    Shapes:
        - `values`: $[\ldots, M]$

    Returns:
        $[\ldots]$, integers from 1 to $M$; 1 if all eigenvalues are zero.

    Raises:
        ValueError: If `share` is not between 0 and 1.

    Examples:
        >>> share_rank(torch.tensor([1.0, 0.8, 0.2, 0.0]), share=0.85)
        tensor(2)
    """
    if not 0 < share < 1:
        raise ValueError(f"share is {share}, expected a number between 0 and 1")
    sums = values.clamp_min(0).cumsum(dim=-1)
    rank: Tensor = (sums < share * sums[..., -1:]).sum(dim=-1) + 1
    return rank
