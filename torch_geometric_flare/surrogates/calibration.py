"""Split-conformal error bands around predictions."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.func import functional_call
from torch_geometric.data import Data

from torch_geometric_flare._arguments import check_numbers, prefixed
from torch_geometric_flare._finite import find_gaps
from torch_geometric_flare.fields import channel_slices
from torch_geometric_flare.metrics import relative_l2

if TYPE_CHECKING:
    from torch_geometric_flare.surrogates.normalized_model import NormalizedModel

Kind = Literal["marginal", "simultaneous"]

Quantities = Callable[[Data, Mapping[str, Tensor]], Mapping[str, float | None]]
"""Named numbers of a sample and its fields, such as drag and lift."""

# As a share of the field's scale. Members agree by chance at some points; a smaller
# floor would widen the bands.
_FLOOR = 0.03


@dataclass(frozen=True)
class Calibration:
    r"""Error bounds of a surrogate, measured on samples it was not trained on.

    Each number is the $\lceil (n + 1)\,\text{level} \rceil$-th smallest error of $n$
    calibration samples. A new sample of the same kind exceeds it with probability at
    most $1 - \text{level}$, for any distribution of the errors.

    Attributes:
        level: The nominal coverage of the bands, such as 0.9.
        num_samples: Number of calibration samples.
        marginal: For each channel, the half width of a band, in units of the spread,
            that contains a share `level` of all points of new samples, on average over
            both; by conformal risk control.
        simultaneous: The same for a band that contains all points of a sample.
        relative_l2: For each field, the relative error that a sample rarely exceeds;
            absolute, in units of the scale of `target_normalizer`, for a sample in
            which the field is zero everywhere.
        quantities: For each named quantity, the half width of its interval.
        members: Weights of further networks of the same class. The spread is the
            standard deviation of their predictions at each point; without members it
            is 1 everywhere.

    Source:
        Lei et al., Distribution-free predictive inference for regression, 2018;
        Angelopoulos et al., Conformal risk control,
        [arXiv 2208.02814](https://arxiv.org/abs/2208.02814).
    """

    level: float
    num_samples: int
    marginal: Tensor
    simultaneous: Tensor
    relative_l2: dict[str, float]
    quantities: dict[str, float]
    members: tuple[dict[str, Tensor], ...] = field(default=(), repr=False)

    def half_width(self, kind: Kind) -> Tensor:
        """Return the half width of each channel, in units of the spread.

        Args:
            kind: `"marginal"` or `"simultaneous"`.

        Raises:
            ValueError: If `kind` is neither.
        """
        if kind not in ("marginal", "simultaneous"):
            raise ValueError(f"kind is {kind!r}, expected 'marginal' or 'simultaneous'")
        width: Tensor = getattr(self, kind)
        return width

    def to_dict(self) -> dict[str, Any]:
        """Return the calibration as tensors and plain values for a file."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {**values, "members": list(self.members)}

    @classmethod
    def read(cls, described: Mapping[str, Any], channels: int) -> "Calibration":
        """Return a calibration from the content of a file, which may be malformed.

        Args:
            described: As returned by `to_dict`.
            channels: Channels of the prediction.

        Raises:
            ValueError: If the values are inconsistent.
        """
        values = {each.name: described[each.name] for each in fields(cls)}
        values["members"] = tuple(dict(member) for member in values["members"])
        calibration = cls(**values)
        for width in (calibration.marginal, calibration.simultaneous):
            if width.shape != (channels,) or not bool((width >= 0).all()):
                raise ValueError("the file holds a malformed calibration")
        if not 0 < calibration.level < 1:
            raise ValueError("the file holds a malformed calibration")
        return calibration


def calibrate(
    surrogate: "NormalizedModel",
    data: Sequence[Data],
    level: float,
    quantities: Quantities | None,
    members: Sequence["NormalizedModel"],
) -> Calibration:
    """Implement `Surrogate.calibrate`."""
    check_numbers(level=level)
    if not 0 < level < 1:
        raise ValueError(f"level is {level}, expected a share between 0 and 1")
    needed = math.ceil(level / (1 - level) - 1e-9)
    if len(data) < needed:
        raise ValueError(
            f"data has {len(data)} samples: a level of {level} needs at least {needed}"
        )
    kinds = {type(member.model) for member in members} - {type(surrogate.model)}
    if kinds:
        raise ValueError(
            f"members have models of {sorted(kind.__name__ for kind in kinds)}, "
            f"expected {type(surrogate.model).__name__}"
        )
    states = tuple(
        {k: v.detach().cpu().clone() for k, v in member.model.state_dict().items()}
        for member in members
    )
    device = surrogate.target_normalizer.shift.device
    scale = surrogate.target_normalizer.scale
    residuals: list[Tensor] = []
    errors: dict[str, list[Tensor]] = {each.name: [] for each in surrogate.fields}
    differences: dict[str, list[float]] = {}
    for number, sample in enumerate(data):
        sample = copy.copy(sample).to(device)
        with prefixed(f"sample {number}"):
            if gaps := find_gaps(sample):
                raise ValueError(gaps)
            predicted = surrogate.predict(copy.copy(sample))
            truth = _checked_truth(sample.get("y"), predicted)
            width = _spread(surrogate, sample, predicted, states)
        residuals.append(((predicted - truth).abs() / width).cpu().sort(dim=0).values)
        for name, columns in channel_slices(surrogate.fields).items():
            errors[name].append(
                relative_l2(
                    predicted[:, columns], truth[:, columns], zero_scale=scale[columns]
                )
            )
        if quantities is not None:
            estimates, truths = (
                quantities(sample, surrogate.split(values))
                for values in (predicted, truth)
            )
            for name, value in estimates.items():
                if value is not None and (true := truths.get(name)) is not None:
                    differences.setdefault(name, []).append(abs(value - true))
    largest = torch.stack([rows[-1] for rows in residuals])
    channels = range(largest.size(1))
    return Calibration(
        level,
        len(data),
        torch.stack(
            [
                risk_controlled([r[:, c].contiguous() for r in residuals], level)
                for c in channels
            ]
        ),
        torch.stack([conformal_quantile(largest[:, c], level) for c in channels]),
        {
            name: conformal_quantile(torch.cat(each), level).item()
            for name, each in errors.items()
        },
        {
            name: conformal_quantile(torch.tensor(each), level).item()
            for name, each in differences.items()
            if len(each) == len(data)
        },
        states,
    )


def _checked_truth(y: Any, predicted: Tensor) -> Tensor:
    """Return the true fields; raise `ValueError` unless there is one per prediction."""
    if not isinstance(y, Tensor):
        raise ValueError("there is no y, the true fields")
    if y.shape != predicted.shape:
        raise ValueError(
            f"y has shape {tuple(y.shape)}, expected {tuple(predicted.shape)}"
        )
    if len(y) == 0:
        raise ValueError("there are no points")
    if not y.is_floating_point():
        raise ValueError(f"y is {y.dtype}, expected floating-point numbers: y.float()")
    return y


def band(
    surrogate: "NormalizedModel", data: Data, predicted: Tensor, kind: Kind
) -> Tensor:
    """Return the half widths around a prediction, see `Surrogate.band`.

    Args:
        surrogate: The surrogate.
        data: The sample.
        predicted: Its prediction.
        kind: The kind of band.

    Shapes:
        - `predicted`: $[N, C]$

    Raises:
        ValueError: If there is no calibration, or `kind` is neither.
    """
    if surrogate.calibration is None:
        raise ValueError("the surrogate has no calibration: make one by calibrate")
    width = surrogate.calibration.half_width(kind).to(predicted)
    return width * _spread(surrogate, data, predicted, surrogate.calibration.members)


def _spread(
    surrogate: "NormalizedModel",
    data: Data,
    predicted: Tensor,
    members: Sequence[Mapping[str, Tensor]],
) -> Tensor:
    """Return the standard deviation of the predictions at each point.

    Args:
        surrogate: The surrogate.
        data: The sample.
        predicted: The surrogate's prediction.
        members: Weights of the other networks.

    Shapes:
        - `predicted`: $[N, C]$

    Returns:
        $[N, C]$, at least 0.03 of the scale of the field; ones without members.
    """
    if not members:
        return torch.ones_like(predicted)
    normalizer = surrogate.target_normalizer
    arguments = surrogate.model_arguments(copy.copy(data))
    others = [predicted]
    with torch.no_grad():
        for state in members:
            moved = {k: v.to(predicted.device) for k, v in state.items()}
            y = functional_call(surrogate.model, moved, kwargs=arguments)
            others.append(normalizer.decode(y))
    deviation = torch.stack(others).std(dim=0)
    return deviation + _FLOOR * normalizer.scale.to(deviation.dtype)


def conformal_quantile(scores: Tensor, level: float) -> Tensor:
    r"""Return the $\lceil (n + 1)\,\text{level} \rceil$-th smallest score.

    Args:
        scores: One score per calibration sample.
        level: The share of new samples that must not exceed the result, in (0, 1).

    Shapes:
        - `scores`: $[n]$, with $n \ge \text{level} / (1 - \text{level})$
    """
    rank = math.ceil((len(scores) + 1) * level - 1e-9)
    return scores.sort().values[rank - 1]


def risk_controlled(residuals: Sequence[Tensor], level: float) -> Tensor:
    r"""Return the smallest bound that covers a share of the points of new samples.

    With $r_i(q)$ the share of the points of sample $i$ above $q$, this is the smallest
    $q$ with $(\sum_i r_i(q) + 1) / (n + 1) \le 1 - \text{level}$.

    Args:
        residuals: Ascending residuals of each calibration sample.
        level: The share, in (0, 1).

    Shapes:
        - `residuals`: $[N_i]$ each
    """
    values = torch.cat([*residuals]).sort().values
    allowed = (1 - level) * (len(residuals) + 1) - 1 + 1e-9
    low, high = 0, len(values) - 1  # the last one always suffices
    while low < high:
        middle = (low + high) // 2
        bound = values[middle]
        above = sum(
            1 - int(torch.searchsorted(r, bound, right=True)) / len(r)
            for r in residuals
        )
        low, high = (low, middle) if above <= allowed else (middle + 1, high)
    return values[low]
