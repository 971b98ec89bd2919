"""States that sets of points leave in the latents, and how states merge."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from torch_geometric_flare._arguments import check_kind


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of a state: sums over many points need at least float32."""
    return torch.promote_types(dtype, torch.float32)


class State(Protocol):
    """The result of encoding a set of points: tensors with a row for each graph.

    States of disjoint sets merge into the state of their union, in any order: they form
    a commutative monoid. Batches of unequal graphs, chunks of points, points spread
    over processes, and prediction from file to file all use this law, so they are
    written once, for any class with these methods.

    To merge any number of states, take the maximum of their `extrema`, add up their
    `sums` relative to it, and pass the total to `from_sums`.
    """

    def __iter__(self) -> Any:
        """Iterate over the tensors."""

    def empty_like(self: "S", num_graphs: int, dtype: torch.dtype) -> "S":
        """Return the state of no points for so many graphs."""

    def extrema(self) -> Tensor:
        """Return the reference of `sums`, detached; it may be empty."""

    def sums(self, extrema: Tensor) -> Tensor:
        """Return the state as sums over points, relative to `extrema`."""

    def from_sums(self: "S", sums: Tensor, extrema: Tensor) -> "S":
        """Return the state of the whole, from sums over all of its parts."""

    def merge(self: "S", other: "S") -> "S":
        """Return the state of the union of two disjoint sets of points."""

    def part_gradients(self: "S", whole: "S", grads: "S") -> "S":
        """Return the gradients of a part, from those of the whole it merged into."""


S = TypeVar("S", bound=State)


def _merge(a: S, b: S) -> S:
    check_kind(type(a), f"a {type(a).__name__}", other=b)
    for place, (x, y) in enumerate(zip(tuple(a), tuple(b), strict=True)):
        if x.shape != y.shape:
            name = getattr(a, "_fields", ())[place]
            raise ValueError(
                f"other.{name} has shape {tuple(y.shape)}, expected {tuple(x.shape)}: "
                "merge states of the same latents"
            )
    top = torch.maximum(a.extrema(), b.extrema())
    return a.from_sums(a.sums(top) + b.sums(top), top)


class SoftmaxState(NamedTuple):
    r"""The state of a softmax over points, which is all that FLARE's decoding needs.

    Attributes:
        value: $Z = \mathrm{softmax}(s\,QK^\top)V$, shape $[\ldots, M, D]$.
        lse: Log-sum-exp of the scores over the points, shape $[\ldots, M]$;
            $-\infty$ for the empty set, whose value is zero.
    """

    value: Tensor
    lse: Tensor

    @classmethod
    def empty(cls, *shape: int, like: Tensor) -> "SoftmaxState":
        """Return the state of no points, the neutral element of `merge`.

        Args:
            *shape: Shape of `value`, $[..., M, D]$.
            like: A tensor whose dtype and device are taken.
        """
        return cls(like.new_zeros(shape), like.new_full(shape[:-1], -torch.inf))

    @classmethod
    def cat(cls, states: Sequence["SoftmaxState"]) -> "SoftmaxState":
        """Concatenate the states of different graphs."""
        if len(states) == 1:
            return states[0]
        values, lses = zip(*states, strict=True)
        return cls(torch.cat(values), torch.cat(lses))

    def empty_like(self, num_graphs: int, dtype: torch.dtype) -> "SoftmaxState":
        """Return the state of no points for so many graphs, with the same latents."""
        like = self.value.new_empty(0, dtype=dtype)
        return SoftmaxState.empty(num_graphs, *self.value.shape[1:], like=like)

    def extrema(self) -> Tensor:
        """Return the log-sum-exp; a result does not depend on it, so detached."""
        return self.lse.detach()

    def sums(self, extrema: Tensor) -> Tensor:
        r"""Return $e^{\ell - t} [Z\;1]$, shape $[\ldots, M, D + 1]$."""
        shift = torch.where(extrema == -torch.inf, 0.0, extrema)
        weight = (self.lse - shift).exp().unsqueeze(-1)
        return torch.cat([weight * self.value, weight], dim=-1)

    def from_sums(self, sums: Tensor, extrema: Tensor) -> "SoftmaxState":
        """Return the state of the whole; free of NaN where it has no points."""
        shift = torch.where(extrema == -torch.inf, 0.0, extrema)
        value, total = sums[..., :-1], sums[..., -1]
        nothing = total == 0
        total = torch.where(nothing, 1.0, total)
        return SoftmaxState(
            value / total.unsqueeze(-1),
            torch.where(nothing, -torch.inf, total.log() + shift),
        )

    def merge(self, other: "SoftmaxState") -> "SoftmaxState":
        r"""Return the state of the union of two disjoint sets of points.

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
        return _merge(self, other)

    def part_gradients(
        self, whole: "SoftmaxState", grads: "SoftmaxState"
    ) -> "SoftmaxState":
        """Return the gradients of this part, whose share of all points is `exp`."""
        shift = torch.where(whole.lse == -torch.inf, 0.0, whole.lse)
        share = (self.lse - shift).exp()
        excess = (grads.value * (self.value - whole.value)).sum(dim=-1)
        return SoftmaxState(
            share.unsqueeze(-1) * grads.value, share * (excess + grads.lse)
        )


class SumState(NamedTuple):
    r"""Sums over points of weighted features, and of the weights.

    The state of attention whose weights do not depend on other points, such as
    Transolver's slices. It merges by addition.

    Attributes:
        total: $\sum_n w_n f_n^\top$, shape $[\ldots, G, D]$.
        weight: $\sum_n w_n$, shape $[\ldots, G]$.
    """

    total: Tensor
    weight: Tensor

    @classmethod
    def empty(cls, *shape: int, like: Tensor) -> "SumState":
        """Return the state of no points, the neutral element of `merge`.

        Args:
            *shape: Shape of `total`, $[..., G, D]$.
            like: A tensor whose dtype and device are taken.
        """
        return cls(like.new_zeros(shape), like.new_zeros(shape[:-1]))

    def empty_like(self, num_graphs: int, dtype: torch.dtype) -> "SumState":
        """Return the state of no points for so many graphs, with the same slices."""
        like = self.total.new_empty(0, dtype=dtype)
        return SumState.empty(num_graphs, *self.total.shape[1:], like=like)

    def extrema(self) -> Tensor:
        """Return an empty tensor: sums need no reference."""
        return self.weight.detach()[..., :0]

    def sums(self, extrema: Tensor) -> Tensor:
        r"""Return $\sum_n w_n [f_n\;1]$, shape $[\ldots, G, D + 1]$."""
        return torch.cat([self.total, self.weight.unsqueeze(-1)], dim=-1)

    def from_sums(self, sums: Tensor, extrema: Tensor) -> "SumState":
        """Return the state of the whole."""
        return SumState(sums[..., :-1], sums[..., -1])

    def merge(self, other: "SumState") -> "SumState":
        """Return the state of the union of two disjoint sets of points.

        Args:
            other: A state of the same shape.

        Returns:
            The sum of both.

        Raises:
            ValueError: If the shapes differ.
        """
        return _merge(self, other)

    def part_gradients(self, whole: "SumState", grads: "SumState") -> "SumState":
        """Return the gradients of this part: those of the sum."""
        return grads
