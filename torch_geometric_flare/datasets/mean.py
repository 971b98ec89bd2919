"""The mean of the training samples, as a baseline."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare.datasets.correspondence import points_correspond


class MeanSample:
    r"""Predict by the mean of the training targets, whatever the input.

    Where the points of all samples correspond (see `NearestSample`) it is the mean
    field, one value per point; else one constant per channel, the mean over all points
    of all samples.

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
        field, total, points, count = torch.zeros(0), torch.zeros(0), 0, 0
        for i, data in enumerate(samples):
            y = data.get("y")
            if not isinstance(y, Tensor):
                raise ValueError(f"samples[{i}] has no y, only {sorted(data.keys())}")
            y = y.detach().to("cpu", torch.float64)
            if first is None:
                first, field, total = (
                    data,
                    torch.zeros_like(y),
                    torch.zeros(y.shape[1:]),
                )
            correspond = correspond and points_correspond(first, data)
            if correspond:
                field = field + y
            total = total + y.sum(0)
            points += y.size(0)
            count += 1
        if first is None or points == 0:
            raise ValueError("samples is empty: there is no mean")
        self._reference = first if correspond else None
        self._field = (field / count).to(first.y.dtype)
        self._constant = (total / points).to(first.y.dtype)

    def predict(self, data: Data) -> Tensor:
        r"""Return the mean at the points of a query, on the CPU.

        Args:
            data: The query.

        Shapes:
            - `returns`: $(N)$ or $(N, C)$
        """
        reference = self._reference
        if reference is not None and points_correspond(reference, data):
            return self._field.clone()
        return self._constant.expand(data.num_nodes or 0, *self._constant.shape).clone()
