"""The training sample of the most similar shape, as a baseline."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class NearestSample:
    r"""Predict by copying the training sample of the most similar shape.

    Shapes $A, B$ are compared by the symmetric Chamfer distance

    $$d(A, B) = \frac{1}{|A|} \sum_{a \in A} \min_{b \in B} \|a - b\|
    + \frac{1}{|B|} \sum_{b \in B} \min_{a \in A} \|a - b\|,$$

    and the closest sample's field is carried over from point to nearest point. A
    surrogate that does worse than this has learned nothing from the shapes.

    Give the normalised coordinates, in which the axes of a flat car count alike. Needs
    SciPy, which the extras `train`, `data` and `simulation` bring.

    Args:
        samples: Pairs of coordinates and field, such as `(data.x, data.y)` over a
            training split; the fields are kept, on their own devices.
        max_kept: Points kept of a sample: of a larger one, a random subset of this size
            (the same in every call), with the field there. It bounds the memory, at
            about 50 bytes a point.
        max_points: With more points than this in a cloud, its side of the sum runs
            over a random subset of this size (the same in every call); the minima are
            still over all points of the other cloud.

    Shapes:
        - `samples`: coordinates $(N_i, D)$ and field $(N_i)$ or $(N_i, C)$ each

    Raises:
        ValueError: If `samples` is empty or a shape does not fit.
    """

    def __init__(
        self,
        samples: Iterable[tuple[Tensor, Tensor]],
        *,
        max_points: int = 2048,
        max_kept: int = 50_000,
    ) -> None:
        for name, value in (("max_points", max_points), ("max_kept", max_kept)):
            if value < 1:
                raise ValueError(f"{name} must be positive, got {value}")
        self.max_points = max_points
        self._clouds: list[_Cloud] = []
        self._fields: list[Tensor] = []
        for i, (x, y) in enumerate(samples):
            _check_field(x, y, f"samples[{i}]")
            if len(x) > max_kept:
                kept = torch.from_numpy(_subset(len(x), max_kept))
                x, y = x[kept.to(x.device)], y[kept.to(y.device)]
            self._clouds.append(_Cloud(x, max_points))
            self._fields.append(y)
        if not self._clouds:
            raise ValueError("samples is empty: there is nothing to copy")

    def __len__(self) -> int:
        return len(self._clouds)

    def nearest(self, x: Tensor) -> int:
        r"""Return the index of the most similar sample; of equals the first.

        Args:
            x: Coordinates of the query, normalised as the samples are.

        Shapes:
            - `x`: $(N, D)$
        """
        return _closest(_Cloud(x, self.max_points), self._clouds)

    def predict(self, x: Tensor) -> Tensor:
        r"""Carry the field of the most similar sample over to the points of a query.

        Args:
            x: Coordinates of the query, normalised as the samples are.

        Shapes:
            - `x`: $(N, D)$
            - `returns`: $(N)$ or $(N, C)$
        """
        query = _Cloud(x, self.max_points)
        index = _closest(query, self._clouds)
        return _carry(self._clouds[index], self._fields[index], query)


def nearest_sample(
    query_pos: Tensor, candidates: Sequence[Tensor], *, max_points: int = 2048
) -> int:
    r"""Return the index of the candidate of the least symmetric Chamfer distance.

    For many queries against the same candidates use `NearestSample`, which builds
    their search trees once.

    Args:
        query_pos: Normalised coordinates.
        candidates: Normalised coordinates of each candidate.
        max_points: As in `NearestSample`.

    Shapes:
        - `query_pos`: $(N, D)$
        - `candidates`: $(N_i, D)$ each

    Raises:
        ValueError: If `candidates` is empty or a shape does not fit.
    """
    if not candidates:
        raise ValueError("candidates is empty: there is no nearest one")
    clouds = [_Cloud(candidate, max_points) for candidate in candidates]
    return _closest(_Cloud(query_pos, max_points), clouds)


def carry_field(source_pos: Tensor, source_field: Tensor, query_pos: Tensor) -> Tensor:
    r"""Give each query point the value of its nearest source point.

    Args:
        source_pos: Normalised coordinates of the source.
        source_field: Values at the points of the source.
        query_pos: Normalised coordinates of the query.

    Shapes:
        - `source_pos`: $(N, D)$
        - `source_field`: $(N)$ or $(N, C)$
        - `query_pos`: $(N_q, D)$
        - `returns`: $(N_q)$ or $(N_q, C)$

    Raises:
        ValueError: If a shape does not fit.
    """
    _check_field(source_pos, source_field, "source_field")
    return _carry(_Cloud(source_pos, 1), source_field, _Cloud(query_pos, 1))


class _Cloud:
    """The points of one shape, a search tree over them, and a subset of them."""

    def __init__(self, x: Tensor, max_points: int) -> None:
        from scipy.spatial import cKDTree

        if x.ndim != 2 or x.size(0) == 0 or not x.isfinite().all():
            raise ValueError(
                "coordinates must be finite and of shape [N, D] with N > 0, "
                f"got shape {list(x.shape)}"
            )
        self.points = x.detach().to("cpu", torch.float64).numpy()
        self.tree: Any = cKDTree(self.points)
        self.subset = self.points
        if len(self.points) > max_points:
            self.subset = self.points[_subset(len(self.points), max_points)]

    def mean_distance_to(self, other: "_Cloud") -> float:
        if self.points.shape[1] != other.points.shape[1]:
            raise ValueError(
                "coordinates must have the same dimension everywhere, got "
                f"{self.points.shape[1]} and {other.points.shape[1]}"
            )
        distance, _ = other.tree.query(self.subset)
        return float(distance.mean())


def _subset(size: int, count: int) -> npt.NDArray[np.int64]:
    """The same `count` of `size` points every time."""
    return np.random.default_rng(0).permutation(size)[:count]


def _closest(query: _Cloud, clouds: Sequence[_Cloud]) -> int:
    distances = [
        query.mean_distance_to(cloud) + cloud.mean_distance_to(query)
        for cloud in clouds
    ]
    return int(np.argmin(distances))


def _carry(source: _Cloud, field: Tensor, query: _Cloud) -> Tensor:
    if source.points.shape[1] != query.points.shape[1]:
        raise ValueError(
            "coordinates must have the same dimension everywhere, got "
            f"{source.points.shape[1]} and {query.points.shape[1]}"
        )
    _, index = source.tree.query(query.points)
    return field[torch.from_numpy(index).to(field.device)]


def _check_field(pos: Tensor, field: Tensor, name: str) -> None:
    if field.ndim not in (1, 2) or pos.size(0) != field.size(0):
        raise ValueError(
            f"{name} needs one value (or row) a point: {list(pos.shape)} coordinates "
            f"do not fit a field of shape {list(field.shape)}"
        )
