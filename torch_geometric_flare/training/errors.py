"""The relative errors that training minimises and reports."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare.fields import Fields, channel_slices
from torch_geometric_flare.metrics import (
    area_weighted_relative_l2,
    relative_l2,
    relative_l2_of_derivatives,
    relative_l2_per_field,
)
from torch_geometric_flare.metrics.graph_sum import widen
from torch_geometric_flare.metrics.squared_error import sum_over_graphs
from torch_geometric_flare.surrogates import QuerySurrogate, Surrogate
from torch_geometric_flare.surrogates.normalized_points import NormalizedPoints
from torch_geometric_flare.surrogates.query_surrogate import query_points


def errors_per_field(
    prediction: Tensor,
    data: Data,
    fields: Fields,
    scale: Tensor | None = None,
    *,
    skip_gaps: bool = False,
) -> dict[str, Tensor]:
    """Return the relative error of each field and sample.

    A field that is zero at every point of a sample has an absolute error in units of
    its scale; see `metrics.relative_l2`.

    Args:
        prediction: The decoded fields side by side.
        data: The sample or batch with the true fields as `y`, and `group` where other
            processes hold other points of it.
        fields: What the columns of both are.
        scale: Scale of each column over the training set; `None` refuses zero fields.
        skip_gaps: Leave out the points where a true field is not finite. A sample
            without any other has the error nan, one whose prediction is not finite the
            error inf.

    Shapes:
        - `prediction`: $[N, C]$
        - `scale`: $[C]$

    Returns:
        Errors by the field's name, $[B]$ each.

    Raises:
        ValueError: If `data` has no `y`, or of another shape than `prediction`.
    """
    if "y" not in data:
        raise ValueError(
            f"the data has no true field y, only {sorted(data.keys())}: add it in the "
            "dataset or by a transform"
        )
    batch, number = graphs_of(data)
    alike = prediction.shape == data.y.shape
    together = data.get("group") is None  # no other process has points of a sample
    if skip_gaps and alike and together and not bool(data.y.isfinite().all()):
        known = data.y.isfinite()
        return {
            name: _errors_where(
                known[:, columns].all(1),
                prediction[:, columns],
                data.y[:, columns],
                batch,
                number,
                None if scale is None else scale[columns],
            )
            for name, columns in channel_slices(fields).items()
        }
    errors = relative_l2_per_field(
        prediction,
        data.y,
        fields,
        batch,
        number,
        group=data.get("group"),
        zero_scale=scale,
    )
    if skip_gaps and together:
        return {name: _infinite_where_nan(each) for name, each in errors.items()}
    return errors


def streams(
    surrogate: Surrogate, data: Data
) -> list[tuple[str, Data, NormalizedPoints]]:
    """Return the sets of points that a surrogate predicts at.

    Args:
        surrogate: The surrogate; of a `QuerySurrogate` there are two sets.
        data: The sample or batch.

    Returns:
        For each set: the prefix of its field names, the points with their true fields
        as `y`, and their names, units and normalisers.
    """
    sets: list[tuple[str, Data, NormalizedPoints]] = [("", data, surrogate)]
    if isinstance(surrogate, QuerySurrogate):
        points = query_points(data)
        points.group = data.get("group")
        sets.append(("query_", points, surrogate.query))
    return sets


def predicted_streams(
    surrogate: Surrogate, prediction: Any, data: Data
) -> list[tuple[str, Tensor, Data, NormalizedPoints]]:
    """Return what `streams` returns, with the predicted fields of each set.

    Args:
        surrogate: The surrogate.
        prediction: What it returned for `data`.
        data: The sample or batch.
    """
    sets = streams(surrogate, data)
    predictions = prediction if len(sets) > 1 else (prediction,)
    return [
        (prefix, values, points, known)
        for (prefix, points, known), values in zip(sets, predictions, strict=True)
    ]


def surrogate_errors(
    surrogate: Surrogate, prediction: Any, data: Data, *, skip_gaps: bool = False
) -> dict[str, Tensor]:
    """Return the relative error of each field and sample, of all streams.

    Args:
        surrogate: The surrogate.
        prediction: What it returned for `data`.
        data: The sample or batch with the true fields as `y`, and as `query_y` where
            the surrogate has query points.
        skip_gaps: As for `errors_per_field`.

    Returns:
        Errors by the field's name, $[B]$ each; the names of fields at query points
        have `query_` before them.

    Raises:
        ValueError: As `errors_per_field`.
    """
    errors: dict[str, Tensor] = {}
    for prefix, values, points, known in predicted_streams(surrogate, prediction, data):
        scale = known.target_normalizer.scale
        measured = errors_per_field(
            values, points, known.fields, scale, skip_gaps=skip_gaps
        )
        errors |= {prefix + name: error for name, error in measured.items()}
    return errors


def graphs_of(data: Data) -> tuple[Tensor | None, int]:
    """Return the batch vector and the number of graphs of a sample or a batch."""
    return data.get("batch"), data.num_graphs if "batch" in data else 1


def zero_fields(y: Tensor, data: Data, fields: Fields) -> dict[str, list[int]]:
    """Return which graphs have no field but zeros, by the name of the field.

    Args:
        y: True fields side by side; values that are not finite do not count.
        data: The sample or batch that they belong to.
        fields: What the columns are.

    Shapes:
        - `y`: $[N, C]$
    """
    batch, number = graphs_of(data)
    finite, slices = y.isfinite(), channel_slices(fields)
    squares = widen(torch.where(finite, y, 0.0)).square()
    sums = [squares[:, columns].sum(1) for columns in slices.values()]
    sums += [finite[:, columns].sum(1).to(squares) for columns in slices.values()]
    both = sum_over_graphs(torch.stack(sums, 1), batch, number, data.get("group"))
    norms, counts = both.chunk(2, dim=1)  # [B, F]
    zero = (norms == 0) & (counts > 0)
    if not bool(zero.any()):
        return {}
    zeros = {
        name: zero[:, index].nonzero().flatten().tolist()
        for index, name in enumerate(slices)
    }
    return {name: graphs for name, graphs in zeros.items() if graphs}


def _errors_where(
    known: Tensor,
    prediction: Tensor,
    target: Tensor,
    batch: Tensor | None,
    num_graphs: int,
    scale: Tensor | None,
) -> Tensor:
    """Return the errors over some of the points; nan for a graph without any."""
    if batch is None:
        batch = torch.zeros(len(known), dtype=torch.long, device=known.device)
    left = batch[known]
    counts = left.bincount(minlength=num_graphs)
    measured = counts > 0
    rank = measured.cumsum(0) - 1  # number of a graph among those that have points
    errors = torch.full((num_graphs,), torch.nan, device=prediction.device)
    if bool(measured.any()):
        found = relative_l2(
            prediction[known], target[known], rank[left], zero_scale=scale
        )
        errors[measured] = _infinite_where_nan(found).to(errors)
    return errors


def _infinite_where_nan(errors: Tensor) -> Tensor:
    return torch.where(errors.isnan(), torch.inf, errors)


def area_weighted_errors(
    prediction: Tensor, data: Data, fields: Fields
) -> dict[str, Tensor]:
    """Return the relative error of each field of a sample, points weighted by area.

    Args:
        prediction: The decoded fields side by side.
        data: The sample with the true fields as `y`; points where one is not finite are
            left out of its error. Points are weighted by its `area`, or else by its
            `weight`.
        fields: What the columns of both are.

    Shapes:
        - `prediction`: $[N, C]$

    Returns:
        One error by the field's name. Fields that are zero wherever there is area are
        left out, and all fields if the sample has neither `area` nor `weight`.
    """
    area = data.get("area") if data.get("area") is not None else data.get("weight")
    errors: dict[str, Tensor] = {}
    for name, columns in channel_slices(fields).items() if area is not None else ():
        true = data.y[:, columns]
        known = true.isfinite().all(1)
        share, true = area.view(-1)[known], true[known]
        if bool((true.abs().amax(1) * share > 0).any()):
            (errors[name],) = area_weighted_relative_l2(
                prediction[known][:, columns], true, share
            )
    return errors


def mean_over_fields(errors: Mapping[str, Tensor]) -> Tensor:
    """Return the mean of one error per field, for each sample, $[B]$."""
    return torch.stack(list(errors.values())).mean(0)


def derivative_errors(
    prediction: Tensor, data: Data, fields: Fields, scale: Tensor | None = None
) -> Tensor:
    """Return the relative errors of both derivatives of each sample, $[B, 2]$.

    With several fields it is their mean over the fields.

    Args:
        prediction: The decoded fields side by side.
        data: The sample or batch with the true fields as `y`, and `grid`, the same for
            all samples.
        fields: What the columns of both are.
        scale: Scale of each column over the training set; `None` refuses zero fields.

    Shapes:
        - `prediction`: $[N, C]$
        - `scale`: $[C]$

    Raises:
        ValueError: If the samples have no grid or different ones, or their points are
            spread over processes.
    """
    if data.get("group") is not None:
        raise ValueError(
            "derivatives need whole grids, but the points of a sample are spread over "
            "processes: set derivative_weight=0, or train without that strategy"
        )
    grid = _common_grid(data.get("grid"))
    errors = [
        relative_l2_of_derivatives(
            prediction[:, columns],
            data.y[:, columns],
            grid,
            data.get("batch"),
            zero_scale=None if scale is None else scale[columns],
        )
        for columns in channel_slices(fields).values()
    ]
    return torch.stack(errors).mean(0)


def _common_grid(grid: Any) -> tuple[int, int]:
    """Return the grid of a sample, (H, W), or the one of all samples of a batch."""
    grids = set(map(tuple, grid)) if isinstance(grid, list) else {grid}
    if len(grids) != 1 or None in grids:
        raise ValueError(
            f"derivatives need samples on one grid (H, W), got grid={grid}: set "
            "derivative_weight=0 in the recipe for others"
        )
    height, width = grids.pop()
    return height, width
