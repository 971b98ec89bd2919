"""Mergeable states of encoded point sets."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from torch_geometric_flare._arguments import check_kind


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of a state: sums over many points need at least float32."""
    return torch.promote_types(dtype, torch.float32)


class State(Protocol):
    """The result of encoding a set of points: tensors with one row per graph.

    The states of disjoint sets merge into the state of their union, in any order: they
    form a commutative monoid. Batches of unequal graphs, chunks of points, distributed
    points and file-to-file prediction are all implemented with these methods, once for
    all classes of states.

    To merge any number of states, take the maximum of their `extrema`, add their `sums`
    relative to it, and pass the total to `from_sums`.
    """

    def __iter__(self) -> Any:
        """Iterate over the tensors."""

    def empty_like(self: "S", num_graphs: int, dtype: torch.dtype) -> "S":
        """Return the empty state for this number of graphs."""

    def extrema(self) -> Tensor:
        """Return the detached reference of `sums`; it may be an empty tensor."""

    def sums(self, extrema: Tensor) -> Tensor:
        """Return the state as sums over points, relative to `extrema`."""

    def from_sums(self: "S", sums: Tensor, extrema: Tensor) -> "S":
        """Return the merged state from the sum of its parts' `sums`."""

    def merge(self: "S", other: "S") -> "S":
        """Return the state of the union of two disjoint sets of points."""

    def part_gradients(self: "S", whole: "S", grads: "S") -> "S":
        """Return the gradients of this part, given those of the merged state."""


S = TypeVar("S", bound=State)


def _merge(a: S, b: S) -> S:
    check_kind(type(a), f"a {type(a).__name__}", other=b)
    for index, (x, y) in enumerate(zip(tuple(a), tuple(b), strict=True)):
        if x.shape != y.shape:
            name = getattr(a, "_fields", ())[index]
            raise ValueError(
                f"other.{name} has shape {tuple(y.shape)}, expected {tuple(x.shape)}: "
                "merge states of the same latents"
            )
    top = torch.maximum(a.extrema(), b.extrema())
    return a.from_sums(a.sums(top) + b.sums(top), top)


class SoftmaxState(NamedTuple):
    r"""The state of a softmax over points, from which FLARE decodes.

    Attributes:
        value: $Z = \mathrm{softmax}(s\,QK^\top)V$, shape $[\ldots, M, D]$.
        lse: Log-sum-exp of the scores over the points, shape $[\ldots, M]$;
            $-\infty$ for an empty set, whose value is zero.
    """

    value: Tensor
    lse: Tensor

    @classmethod
    def empty(cls, *shape: int, like: Tensor) -> "SoftmaxState":
        """Return the state of an empty set, the identity element of `merge`.

        Args:
            *shape: Shape of `value`, $[..., M, D]$.
            like: A tensor with the dtype and device of the state.
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
        """Return the empty state for this number of graphs and the same latents."""
        like = self.value.new_empty(0, dtype=dtype)
        return SoftmaxState.empty(num_graphs, *self.value.shape[1:], like=like)

    def extrema(self) -> Tensor:
        """Return the log-sum-exp, detached because it only stabilizes the sums."""
        return self.lse.detach()

    def sums(self, extrema: Tensor) -> Tensor:
        r"""Return $e^{\ell - t} [Z\;1]$, shape $[\ldots, M, D + 1]$."""
        shift = torch.where(extrema == -torch.inf, 0.0, extrema)
        weight = (self.lse - shift).exp().unsqueeze(-1)
        return torch.cat([weight * self.value, weight], dim=-1)

    def from_sums(self, sums: Tensor, extrema: Tensor) -> "SoftmaxState":
        """Return the merged state, without NaN for empty sets."""
        shift = torch.where(extrema == -torch.inf, 0.0, extrema)
        value, total = sums[..., :-1], sums[..., -1]
        empty = total == 0
        total = torch.where(empty, 1.0, total)
        return SoftmaxState(
            value / total.unsqueeze(-1),
            torch.where(empty, -torch.inf, total.log() + shift),
        )

    def merge(self, other: "SoftmaxState") -> "SoftmaxState":
        r"""Return the state of the union of two disjoint sets of points.

        With $L = \mathrm{logaddexp}(l_a, l_b)$ it is
        $(e^{l_a - L} Z_a + e^{l_b - L} Z_b,\; L)$. The operation is associative,
        commutative and differentiable in both states. Empty sets cause no NaN in
        forward and backward.

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
        """Return the gradients of this part, given those of the merged state."""
        shift = torch.where(whole.lse == -torch.inf, 0.0, whole.lse)
        share = (self.lse - shift).exp()
        excess = (grads.value * (self.value - whole.value)).sum(dim=-1)
        return SoftmaxState(
            share.unsqueeze(-1) * grads.value, share * (excess + grads.lse)
        )


class SumState(NamedTuple):
    r"""Sums over points of weighted features and of weights.

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
        """Return the state of an empty set, the identity element of `merge`.

        Args:
            *shape: Shape of `total`, $[..., G, D]$.
            like: A tensor with the dtype and device of the state.
        """
        return cls(like.new_zeros(shape), like.new_zeros(shape[:-1]))

    def empty_like(self, num_graphs: int, dtype: torch.dtype) -> "SumState":
        """Return the empty state for this number of graphs and the same slices."""
        like = self.total.new_empty(0, dtype=dtype)
        return SumState.empty(num_graphs, *self.total.shape[1:], like=like)

    def extrema(self) -> Tensor:
        """Return an empty tensor, because sums need no reference."""
        return self.weight.detach()[..., :0]

    def sums(self, extrema: Tensor) -> Tensor:
        r"""Return $\sum_n w_n [f_n\;1]$, shape $[\ldots, G, D + 1]$."""
        return torch.cat([self.total, self.weight.unsqueeze(-1)], dim=-1)

    def from_sums(self, sums: Tensor, extrema: Tensor) -> "SumState":
        """Return the merged state."""
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
        """Return the gradients of this part, which equal those of the sum."""
        return grads
