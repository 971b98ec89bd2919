"""What a set of points leaves behind in the latents, and how two sets join."""

from typing import NamedTuple

import torch
from torch import Tensor


class LatentState(NamedTuple):
    r"""The result of `flare_encode`: all that decoding needs of a set of points.

    States of disjoint sets merge into the state of their union, in any order:
    batches, chunks of a stream and processes are all this one law.

    Attributes:
        value: $Z = \mathrm{softmax}(s\,QK^\top)V$, shape $[\ldots, M, D]$.
        lse: Log-sum-exp of the scores over the points, shape $[\ldots, M]$;
            $-\infty$ for the empty set, whose value is zero.
    """

    value: Tensor
    lse: Tensor

    @classmethod
    def empty(cls, *shape: int, like: Tensor) -> "LatentState":
        """The state of no points, the neutral element of `merge`.

        Args:
            *shape: Shape of `value`, $[..., M, D]$.
            like: A tensor whose dtype and device are taken.
        """
        return cls(like.new_zeros(shape), like.new_full(shape[:-1], -torch.inf))

    def merge(self, other: "LatentState") -> "LatentState":
        r"""The state of the union of two disjoint sets of points.

        With $L = \mathrm{logaddexp}(l_a, l_b)$ it is
        $(e^{l_a - L} Z_a + e^{l_b - L} Z_b,\; L)$. Associative, commutative,
        differentiable in both members, and free of NaN for empty sets, in forward
        and backward.

        Args:
            other: A state of the same shape.

        Returns:
            The merged state.

        Raises:
            ValueError: If the shapes differ.
        """
        if self.value.shape != other.value.shape:
            raise ValueError(
                f"other.value has shape {tuple(other.value.shape)}, expected "
                f"{tuple(self.value.shape)}: merge states of the same latents"
            )
        # The result does not depend on the shift, so it needs no gradient.
        top = torch.maximum(self.lse, other.lse).detach()
        shift = torch.where(top == -torch.inf, 0.0, top)
        weight_a = (self.lse - shift).exp()
        weight_b = (other.lse - shift).exp()
        total = weight_a + weight_b
        nothing = total == 0
        total = torch.where(nothing, 1.0, total)
        value = (
            weight_a.unsqueeze(-1) * self.value + weight_b.unsqueeze(-1) * other.value
        ) / total.unsqueeze(-1)
        return LatentState(value, torch.where(nothing, -torch.inf, total.log() + shift))
