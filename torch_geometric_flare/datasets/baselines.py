"""Baselines: the mean of the training samples, and the most similar one."""

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare._arguments import brief
from torch_geometric_flare._extras import needs_extra

Points = npt.NDArray[np.float64]


def points_correspond(first: Data, second: Data) -> bool:
    """Return whether point i of one sample corresponds to point i of the other.

    Points correspond on structured grids of the same shape, in meshes with the same
    `cells` (a deformed mesh), and at the same coordinates `pos`.

    Args:
        first: A sample.
        second: Another.
    """
    if first.num_nodes != second.num_nodes:
        return False
    grids = first.get("grid"), second.get("grid")
    if grids[0] is not None and grids[1] is not None:
        return tuple(grids[0]) == tuple(grids[1])
    return any(_equal(first.get(name), second.get(name)) for name in ("cells", "pos"))


class MeanSample:
    r"""Predict the mean of the training targets for any input.

    If the points of all samples correspond (see `NearestSample`), it is the mean field,
    one value per point; otherwise one constant per channel, the mean over all points of
    all samples. Values that are not finite are ignored; a point without finite values
    gets the constant.

    Args:
        samples: A training split with `y`; read once, one sample at a time.

    Shapes:
        - `y` of a sample: $(N_i)$ or $(N_i, C)$

    Raises:
        ValueError: If `samples` is empty, or one has no `y`.
    """

    def __init__(self, samples: Iterable[Data]) -> None:
        first: Data | None = None
        correspond = True
        field = total = fields = points = torch.zeros(0)
        for i, data in enumerate(samples):
            y = data.get("y")
            if not isinstance(y, Tensor):
                raise ValueError(f"samples[{i}] has no y, only {sorted(data.keys())}")
            y = y.detach().to("cpu", torch.float64)
            if first is None:
                first = data
                field = fields = torch.zeros_like(y)
                total = points = y.new_zeros(y.shape[1:])
            finite = y.isfinite()
            y = torch.where(finite, y, 0.0)
            correspond = correspond and points_correspond(first, data)
            if correspond:
                field, fields = field + y, fields + finite
            total, points = total + y.sum(0), points + finite.sum(0)
        if first is None or not bool((points > 0).all()):
            raise ValueError("samples is empty: there is no mean")
        self._reference = first if correspond else None
        constant = total / points
        mean = torch.where(fields > 0, field / fields.clamp(min=1), constant)
        dtype = first.y.dtype if first.y.is_floating_point() else torch.float32
        self._field, self._constant = mean.to(dtype), constant.to(dtype)

    def predict(self, data: Data) -> Tensor:
        r"""Return the mean at the points of a query sample, on the CPU.

        Args:
            data: The query.

        Shapes:
            - `returns`: $(N)$ or $(N, C)$
        """
        reference = self._reference
        if reference is not None and points_correspond(reference, data):
            return self._field.clone()
        return self._constant.expand(data.num_nodes or 0, *self._constant.shape).clone()


class NearestSample:
    r"""Predict a copy of the target of the most similar training sample.

    Similarity depends on whether points correspond, that is, whether all samples have
    the same `grid`, the same `cells`, or the same coordinates `pos`.

    - **Points that correspond** (a structured grid, a fixed mesh): the whole inputs
      are compared point by point,
      $d(A, B)^2 = \frac{1}{N} \sum_i \|a_i - b_i\|^2$, and the target is copied. So
      two coefficients on the same grid differ, although the points do not.
    - **Points that do not:** inputs $A, B$ are compared as point clouds, by the
      symmetric Chamfer distance

    $$d(A, B) = \frac{1}{|A|} \sum_{a \in A} \min_{b \in B} \|a - b\|
    + \frac{1}{|B|} \sum_{b \in B} \min_{a \in A} \|a - b\|,$$

    and each point takes the target of the nearest point.

    **Conditions** `u` of whole samples, each in units of its standard deviation over
    the training samples, add to the distance: $\|u_A - u_B\|^2$ is added to $d(A, B)^2$
    if points correspond, $\|u_A - u_B\|$ to $d(A, B)$ otherwise. Conditions that are
    the same in all training samples are ignored.

    Targets that are not finite are taken from the nearest point that has one.

    A surrogate with a larger error has learned nothing from the inputs.

    Distances are computed in the input `x`. Normalize it, so that all axes of a flat
    car and features of other magnitudes have equal weight. Needs SciPy, which the
    extras `train`, `data` and `simulation` install.

    Args:
        samples: A training split with `x` and `y`; the targets are kept on their
            devices.
        max_kept: Maximum number of points kept per sample. Of a larger sample, a random
            subset of this size (the same in every call) is kept with its target, and
            its points do not correspond to others. This bounds the memory, at about 50
            bytes per point.
        max_points: If a cloud has more points than this, its sum runs over a random
            subset of this size (the same in every call); the minima are still over all
            points of the other cloud.

    Shapes:
        - `x` of a sample: $(N_i, D)$
        - `y` of a sample: $(N_i)$ or $(N_i, C)$
        - `u` of a sample, if there is any: $(1, G)$

    Raises:
        ValueError: If `samples` is empty or a shape does not fit.
    """

    def __init__(
        self,
        samples: Iterable[Data],
        *,
        max_points: int = 512,
        max_kept: int = 50_000,
    ) -> None:
        for name, value in (("max_points", max_points), ("max_kept", max_kept)):
            if value < 1:
                raise ValueError(f"{name} must be positive, got {value}")
        self.max_points = max_points
        self._inputs: list[Points] = []
        self._targets: list[Tensor] = []
        conditions: list[Points] = []
        first: Data | None = None
        correspond = True
        for i, data in enumerate(samples):
            first = data if first is None else first
            x, y = self._input(data), data.get("y")
            if y is None or y.ndim not in (1, 2) or len(x) != y.size(0):
                shape = None if y is None else list(y.shape)
                raise ValueError(
                    f"samples[{i}] needs one target (or row) per point: x of shape "
                    f"{list(x.shape)} does not fit y of shape {shape}"
                )
            correspond = (
                correspond and len(x) <= max_kept and points_correspond(first, data)
            )
            if len(x) > max_kept:
                kept = _subset(len(x), max_kept)
                x, y = x[kept], y[torch.from_numpy(kept).to(y.device)]
            self._inputs.append(x)
            self._targets.append(_fill_gaps(x, y))
            conditions.append(_conditions(data))
        if first is None:
            raise ValueError("samples is empty: there is nothing to copy")
        self._reference = first if correspond else None
        if len({len(u) for u in conditions}) > 1:
            raise ValueError(
                "u must have the same columns in all samples, got "
                f"{sorted({len(u) for u in conditions})}"
            )
        self._conditions = np.stack(conditions)
        deviation = self._conditions.std(axis=0)
        # Only rounding if all are the same.
        size = np.abs(self._conditions).max(axis=0, initial=0.0)
        self._varied = deviation > 1e-9 * size
        self._deviation = deviation[self._varied]

    def __len__(self) -> int:
        return len(self._inputs)

    def nearest(self, data: Data) -> int:
        r"""Return the index of the most similar sample; the first in a tie.

        Args:
            data: The query, with `x`.

        Raises:
            ValueError: If `x` or `u` is missing, not finite, or has the wrong number of
                channels.
        """
        return self._nearest(data, self._input(data))

    def predict(self, data: Data) -> Tensor:
        r"""Return the target of the most similar sample at the points of a query.

        Args:
            data: The query, with `x`.

        Shapes:
            - `returns`: $(N)$ or $(N, C)$

        Raises:
            ValueError: If `x` or `u` is missing, not finite, or has the wrong number of
                channels.
        """
        x = self._input(data)
        index = self._nearest(data, x)
        target = self._targets[index]
        if self._corresponds(data):
            return target.clone()
        _, carried = self._clouds[index].tree.query(x)
        return target[torch.from_numpy(carried).to(target.device)]

    def _nearest(self, data: Data, x: Points) -> int:
        of_conditions = self._squared_distances_of_conditions(data)
        if self._corresponds(data):
            squares = [np.square(x - other).sum() / len(x) for other in self._inputs]
            return int(np.argmin(np.array(squares) + of_conditions))
        query = _Cloud(x, self.max_points)
        distances = [
            query.mean_distance_to(cloud) + cloud.mean_distance_to(query)
            for cloud in self._clouds
        ]
        return int(np.argmin(np.array(distances) + np.sqrt(of_conditions)))

    def _squared_distances_of_conditions(self, data: Data) -> Points:
        if not self._varied.any():
            return np.zeros(len(self))
        u = _conditions(data)
        if len(u) != len(self._varied):
            raise ValueError(
                f"u must have {len(self._varied)} columns, as in the training samples, "
                f"got {len(u)}"
            )
        difference = (self._conditions - u)[:, self._varied] / self._deviation
        squares: Points = np.square(difference).sum(axis=1)
        return squares

    def _corresponds(self, data: Data) -> bool:
        return self._reference is not None and points_correspond(self._reference, data)

    @cached_property
    def _clouds(self) -> "list[_Cloud]":
        return [_Cloud(x, self.max_points) for x in self._inputs]

    def _input(self, data: Data) -> Points:
        """Return the input of a sample as an array [N, D] on the CPU."""
        x = data.get("x")
        if x is None or x.ndim != 2 or x.size(0) == 0 or not x.isfinite().all():
            raise ValueError(
                "x must be finite and of shape [N, D] with N > 0, got "
                f"{'no x' if x is None else list(x.shape)}"
            )
        if self._inputs and x.size(1) != self._inputs[0].shape[1]:
            raise ValueError(
                "x must have the same channels in all samples, got "
                f"{x.size(1)} and {self._inputs[0].shape[1]}"
            )
        return np.asarray(x.detach().to("cpu", torch.float64).numpy())


class _Cloud:
    """Points with a search tree and a random subset."""

    def __init__(self, points: Points, max_points: int) -> None:
        with needs_extra("data", "NearestSample"):
            from scipy.spatial import cKDTree

        self.tree: Any = cKDTree(points)
        self.subset = points
        if len(points) > max_points:
            self.subset = points[_subset(len(points), max_points)]

    def mean_distance_to(self, other: "_Cloud") -> float:
        distance, _ = other.tree.query(self.subset)
        return float(distance.mean())


def _conditions(data: Data) -> Points:
    """Return the conditions of a sample as an array [G] on the CPU; empty if none."""
    u = data.get("u")
    if u is None:
        return np.zeros(0)
    if (
        not isinstance(u, Tensor)
        or u.ndim != 2
        or len(u) != 1
        or not u.isfinite().all()
    ):
        raise ValueError(f"u must be finite and of shape [1, G], got {brief(u)}")
    return np.asarray(u[0].detach().to("cpu", torch.float64).numpy())


def _subset(size: int, count: int) -> npt.NDArray[np.int64]:
    """Return a fixed random subset of `count` out of `size` points."""
    return np.random.default_rng(0).permutation(size)[:count]


def _fill_gaps(x: Points, y: Tensor) -> Tensor:
    """Replace targets that are not finite by those of the nearest points."""
    finite = y.isfinite().view(len(y), -1).all(1).cpu()
    if bool(finite.all()) or not bool(finite.any()):
        return y
    _, nearest = _Cloud(x[finite.numpy()], len(x)).tree.query(x)
    filled = y[finite.to(y.device)][torch.from_numpy(nearest).to(y.device)]
    return torch.where(y.isfinite(), y, filled)


def _equal(first: object, second: object) -> bool:
    if not isinstance(first, torch.Tensor) or not isinstance(second, torch.Tensor):
        return False
    return torch.equal(first.cpu(), second.cpu())
