"""Distance of a sample from the training samples, in the network's latent states."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from torch_geometric_flare._arguments import check_integers
from torch_geometric_flare.fields import Fields, channel_names
from torch_geometric_flare.transforms import Normalizer

NEIGHBORS = 3
"""Number of nearest training samples whose distances are averaged."""

FEWEST = NEIGHBORS + 2
"""Fewest training samples that a guard needs."""

_ROUNDING = 1e-6  # relative, in single precision

UNUSUAL, OUTSIDE = 0.95, 0.99
"""Levels of the held-out distances above which a sample is unusual or outside."""


@dataclass(frozen=True)
class Verdict:
    """Result of a guard for a sample.

    Attributes:
        label: `"inside"`, `"unusual"` if farther than 95 % of held-out samples, or
            `"outside"` if farther than 99 % of them, or a condition is out of range.
        distance: Mean whitened distance to the nearest training samples.
        unusual_above: Distance above which a sample is unusual.
        outside_above: Distance above which a sample is outside.
        nearest: Names of the nearest training samples, the nearest first.
        out_of_range: Text for each condition outside the range of the training data,
            with its value, the range and the unit.
        basis: Text that says what the thresholds are based on.
    """

    label: Literal["inside", "unusual", "outside"]
    distance: float
    unusual_above: float
    outside_above: float
    nearest: tuple[str, ...]
    out_of_range: tuple[str, ...]
    basis: str

    def __str__(self) -> str:
        ranges = "".join(f"; {text}" for text in self.out_of_range)
        return (
            f"{self.label}: distance {self.distance:.3g} to the nearest training "
            f"samples ({', '.join(self.nearest)}), unusual above "
            f"{self.unusual_above:.3g}, outside above {self.outside_above:.3g} "
            f"({self.basis}){ranges}"
        )


@dataclass(frozen=True)
class Guard:
    r"""Detects samples that are unlike the training samples.

    Each sample has a row of numbers, `nn.pooled_states` and its encoded conditions. The
    columns are scaled to unit standard deviation and whitened with the shrunk
    covariance of Ledoit and Wolf. The distance of a sample is the mean distance to its
    3 nearest training samples; the thresholds are quantiles of the distances of samples
    that the network was not trained on.

    Attributes:
        summaries: Rows of the training samples, $[n, S]$, the encoded conditions last.
        distances: Distances that the thresholds are based on, $[m]$, ascending.
        names: Names of the training samples.
        held_out: Whether these distances belong to samples that the network was not
            trained on. Otherwise each training sample was compared with the others,
            which gives smaller distances than those of new samples.
        num_conditions: Number of condition columns.

    Source:
        Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance
        matrices, 2004.
    """

    summaries: Tensor
    distances: Tensor
    names: tuple[str, ...]
    held_out: bool
    num_conditions: int = 0

    @classmethod
    def fit(
        cls,
        summaries: Tensor,
        held_out: Tensor | None,
        names: Sequence[str] | None = None,
        num_conditions: int = 0,
    ) -> "Guard":
        """Measure the distances that the thresholds are based on.

        Args:
            summaries: Rows of the training samples.
            held_out: Rows of other samples; `None` to compare each training sample
                with the others.
            names: Names of the training samples; their numbers by default.
            num_conditions: Number of condition columns, which are the last ones.

        Shapes:
            - `summaries`: $[n, S]$
            - `held_out`: $[m, S]$

        Raises:
            ValueError: If there are fewer than 5 training samples, `held_out` is empty,
                the numbers of names and samples differ, or a row is not finite.
        """
        number = len(summaries)
        if number < FEWEST:
            raise ValueError(
                f"train has {number} samples: a guard needs at least {FEWEST}"
            )
        if names is None:
            names = [f"training sample {index}" for index in range(number)]
        if len(names) != number:
            raise ValueError(f"names are {len(names)}, but train has {number} samples")
        if held_out is not None and len(held_out) == 0:
            raise ValueError("held_out is empty: pass None or at least one sample")
        # In the precision of a saved guard, so that a loaded one gives equal results.
        rows = summaries.detach().cpu().float()
        finite = rows.isfinite().all(1)
        if not finite.all():
            name = names[int(finite.logical_not().nonzero()[0])]
            raise ValueError(f"the state of {name} is not finite")
        guard = cls(rows, rows.new_empty(0), tuple(names), False, num_conditions)
        if held_out is None:
            white = guard._whitened
            apart = torch.cdist(white, white).fill_diagonal_(math.inf)
            measured = _nearest(apart)[0]
        else:
            measured = guard.measure(held_out)[0]
        return cls(
            rows,
            measured.sort().values,
            guard.names,
            held_out is not None,
            num_conditions,
        )

    @cached_property
    def _whitening(self) -> tuple[Tensor, Tensor]:
        """The mean of the rows and the matrix that whitens the centered rows."""
        rows = self.summaries.double()
        mean = rows.mean(dim=0)
        deviation = rows.std(dim=0, correction=0)
        # A column that is constant up to rounding is scaled by its magnitude.
        scale = torch.maximum(deviation, _ROUNDING * mean.abs())
        scale = torch.where(scale == 0, 1.0, scale)
        values, vectors = torch.linalg.eigh(_shrunk_covariance((rows - mean) / scale))
        return mean, vectors / values.sqrt() / scale.unsqueeze(1)

    @cached_property
    def _whitened(self) -> Tensor:
        mean, matrix = self._whitening
        return (self.summaries.double() - mean) @ matrix

    def measure(self, summaries: Tensor) -> tuple[Tensor, Tensor]:
        """Return the distances of samples and their nearest training samples.

        Args:
            summaries: Rows of the samples.

        Shapes:
            - `summaries`: $[B, S]$

        Returns:
            Distances, $[B]$, infinite where a row is not finite, and the indices of the
            nearest training samples, $[B, 3]$.
        """
        mean, matrix = self._whitening
        rows = (summaries.detach().cpu().float().double() - mean) @ matrix
        distance, nearest = _nearest(torch.cdist(rows, self._whitened))
        return torch.where(rows.isfinite().all(1), distance, math.inf), nearest

    def threshold(self, level: float) -> float:
        r"""Return the distance that a share of new samples does not exceed.

        This is the $\lceil (m + 1)\,\text{level} \rceil$-th smallest of the $m$
        distances, or the largest one if that rank exceeds $m$.

        Args:
            level: The share, in (0, 1).
        """
        number = len(self.distances)
        return self.distances[min(math.ceil((number + 1) * level), number) - 1].item()

    @property
    def basis(self) -> str:
        """Text that says what the thresholds are based on."""
        number = len(self.distances)
        text = f"by {number} held-out samples"
        if not self.held_out:
            text = f"by {number} training samples, each against the others: optimistic"
        if number < 1 / (1 - OUTSIDE) - 1:
            text += "; too few for 99 %, so the largest distance"
        return text

    def judge(
        self,
        summary: Tensor,
        conditions: Fields = (),
        normalizer: Normalizer | None = None,
    ) -> Verdict:
        """Compare one sample with the training samples.

        Args:
            summary: Row of the sample.
            conditions: Names and units of the condition columns.
            normalizer: Decodes the condition columns; `None` if they are not encoded.

        Shapes:
            - `summary`: $[1, S]$
        """
        (distance,), (nearest,) = self.measure(summary)
        unusual, outside = self.threshold(UNUSUAL), self.threshold(OUTSIDE)
        beyond = self._out_of_range(summary, conditions, normalizer)
        label: Literal["inside", "unusual", "outside"] = "inside"
        if distance > unusual:
            label = "unusual"
        if distance > outside or beyond:
            label = "outside"
        return Verdict(
            label,
            distance.item(),
            unusual,
            outside,
            tuple(self.names[index] for index in nearest),
            beyond,
            self.basis,
        )

    def _out_of_range(
        self, summary: Tensor, conditions: Fields, normalizer: Normalizer | None
    ) -> tuple[str, ...]:
        if self.num_conditions == 0:
            return ()
        columns = slice(-self.num_conditions, None)
        low, high = self.summaries[:, columns].aminmax(dim=0)
        slack = 1e-4 * (high - low)  # the numbers are in single precision
        values = summary.detach().cpu().float()[0, columns]
        outside = (values < low - slack) | (values > high + slack) | values.isnan()
        numbers = torch.stack([values, low, high])
        if normalizer is not None:
            numbers = normalizer.decode(numbers.to(normalizer.shift.device)).cpu()
        units = [
            f" {field.unit}" if field.unit else ""
            for field in conditions
            for _ in range(field.channels)
        ]
        return tuple(
            f"{name} is {value:.4g}{unit}, but the model was trained on {least:.4g} to "
            f"{most:.4g}{unit}"
            for name, unit, is_outside, (value, least, most) in zip(
                channel_names(conditions),
                units,
                outside.tolist(),
                numbers.T.tolist(),
                strict=True,
            )
            if is_outside
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the guard as tensors and plain values for a file."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**values, "names": list(self.names)}

    @classmethod
    def read(cls, described: Mapping[str, Any]) -> "Guard":
        """Return a guard from the content of a file, which may be malformed.

        Args:
            described: As returned by `to_dict`.

        Raises:
            ValueError: If the values are inconsistent.
        """
        rows, distances = described["summaries"], described["distances"]
        names = tuple(map(str, described["names"]))
        conditions = described["num_conditions"]
        check_integers(0, num_conditions=conditions)
        fits = (
            rows.dim() == 2
            and len(rows) == len(names) >= FEWEST
            and distances.dim() == 1
            and len(distances) > 0
            and conditions <= rows.size(1)
            and rows.is_floating_point()
            and bool(rows.isfinite().all())
        )
        if not fits:
            raise ValueError("the file holds a malformed guard")
        held_out = bool(described["held_out"])
        return cls(rows.float(), distances.double(), names, held_out, conditions)


def _nearest(distances: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean distance to the nearest rows and their indices."""
    values, indices = distances.topk(NEIGHBORS, dim=1, largest=False)
    return values.mean(dim=1), indices


def _shrunk_covariance(rows: Tensor) -> Tensor:
    """Return the Ledoit-Wolf shrunk covariance of centered rows."""
    number, width = rows.shape
    covariance = rows.mT @ rows / number
    mean = covariance.trace() / width
    identity = torch.eye(width, dtype=rows.dtype, device=rows.device)
    target = identity * mean
    distance = (covariance - target).square().sum()
    squares = rows.square()
    spread = squares.sum(1).square().mean() - covariance.square().sum()
    if distance == 0:
        return target if mean > 0 else identity
    share = (spread / number / distance).clamp(0, 1)
    return (1 - share) * covariance + share * target
