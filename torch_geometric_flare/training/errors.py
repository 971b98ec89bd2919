"""Relative errors that are minimized and reported in training."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

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
from torch_geometric_flare.metrics.squared_error import result_dtype, sum_over_graphs
from torch_geometric_flare.surrogates import QuerySurrogate, Surrogate
from torch_geometric_flare.surrogates.normalized_points import NormalizedPoints
from torch_geometric_flare.surrogates.query_surrogate import query_points

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def errors_per_field(
    prediction: Tensor,
    data: Data,
    fields: Fields,
    scale: Tensor | None = None,
    *,
    skip_gaps: bool = False,
) -> dict[str, Tensor]:
    """Return the relative error of each field and sample.

    If a field is zero at every point of a sample, its error is absolute, in units of
    its scale; see `metrics.relative_l2`.

    Args:
        prediction: The decoded fields, concatenated along the channels.
        data: The sample or batch with the true fields as `y`, and with `group` if its
            points are distributed over processes.
        fields: Names and channels of the columns.
        scale: Scale of each column over the training set; with `None`, zero fields
            raise an error.
        skip_gaps: Whether to ignore points where a true field is not finite. The error
            of a sample without other points is NaN, and infinite if its prediction is
            not finite.

    Shapes:
        - `prediction`: $[N, C]$
        - `scale`: $[C]$

    Returns:
        Errors by name of the field, $[B]$ each.

    Raises:
        ValueError: If `data` has no `y`, or `y` is not of floating-point numbers or has
            another shape than `prediction`.
    """
    y = true_fields(data)
    if y.shape != prediction.shape:
        raise ValueError(
            f"y has shape {tuple(y.shape)}, expected that of the prediction, "
            f"{tuple(prediction.shape)}"
        )
    batch, num_graphs = graphs_of(data)
    group = data.get("group")
    if skip_gaps:
        finite = y.isfinite()
        # The processes of a group must take the same branch.
        if group is not None or not bool(finite.all()):
            return {
                name: _errors_where(
                    finite[:, columns].all(1),
                    prediction[:, columns],
                    y[:, columns],
                    batch,
                    num_graphs,
                    None if scale is None else scale[columns],
                    group,
                )
                for name, columns in channel_slices(fields).items()
            }
    errors = relative_l2_per_field(
        prediction,
        y,
        fields,
        batch,
        num_graphs,
        group=group,
        zero_scale=scale,
    )
    if skip_gaps:
        return {name: _infinite_where_nan(each) for name, each in errors.items()}
    return errors


def true_fields(data: Data) -> Tensor:
    """Return `y` of a sample or batch; raise `ValueError` if it is missing or no field.

    Args:
        data: The sample or batch.
    """
    y = data.get("y")
    if y is None:
        raise ValueError(
            f"the data has no true field y, only {sorted(data.keys())}: add it in the "
            "dataset or with a transform"
        )
    if not isinstance(y, Tensor) or not y.is_floating_point():
        kind = y.dtype if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(
            f"y is {kind}, expected a tensor of floating-point numbers: convert it in "
            "the dataset, as by torch.as_tensor(y, dtype=torch.float32)"
        )
    return y


def streams(
    surrogate: Surrogate, data: Data
) -> list[tuple[str, Data, NormalizedPoints]]:
    """Return the sets of points at which a surrogate predicts.

    Args:
        surrogate: The surrogate; a `QuerySurrogate` has two sets.
        data: The sample or batch.

    Returns:
        For each set: the prefix of its field names, the points with their true fields
        as `y`, and their names, units and normalizers.
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
    """Return the result of `streams` with the predicted fields of each set.

    Args:
        surrogate: The surrogate.
        prediction: Its result for `data`.
        data: The sample or batch.
    """
    sets = streams(surrogate, data)
    predictions = prediction if len(sets) > 1 else (prediction,)
    return [
        (prefix, values, points, point_set)
        for (prefix, points, point_set), values in zip(sets, predictions, strict=True)
    ]


def surrogate_errors(
    surrogate: Surrogate, prediction: Any, data: Data, *, skip_gaps: bool = False
) -> dict[str, Tensor]:
    """Return the relative error of each field and sample of all streams.

    Args:
        surrogate: The surrogate.
        prediction: Its result for `data`.
        data: The sample or batch with the true fields as `y`, and as `query_y` if the
            surrogate has query points.
        skip_gaps: As for `errors_per_field`.

    Returns:
        Errors by the field's name, $[B]$ each; the names of fields at query points have
        the prefix `query_`.

    Raises:
        ValueError: See `errors_per_field`.
    """
    errors: dict[str, Tensor] = {}
    for prefix, values, points, point_set in predicted_streams(
        surrogate, prediction, data
    ):
        scale = point_set.target_normalizer.scale
        measured = errors_per_field(
            values, points, point_set.fields, scale, skip_gaps=skip_gaps
        )
        errors |= {prefix + name: error for name, error in measured.items()}
    return errors


def graphs_of(data: Data) -> tuple[Tensor | None, int]:
    """Return the batch vector and the number of graphs of a sample or a batch."""
    return data.get("batch"), data.num_graphs if "batch" in data else 1


def zero_fields(y: Tensor, data: Data, fields: Fields) -> dict[str, list[int]]:
    """Return the graphs in which a field is zero everywhere, by name of the field.

    Args:
        y: True fields, concatenated along the channels; non-finite values do not
            count.
        data: The sample or batch of these fields.
        fields: Names and channels of the columns.

    Shapes:
        - `y`: $[N, C]$
    """
    batch, num_graphs = graphs_of(data)
    finite, slices = y.isfinite(), channel_slices(fields)
    squares = widen(torch.where(finite, y, 0.0)).square()
    sums = [squares[:, columns].sum(1) for columns in slices.values()]
    sums += [finite[:, columns].sum(1).to(squares) for columns in slices.values()]
    totals = torch.stack(sums, 1)
    norms, counts = sum_over_graphs(totals, batch, num_graphs, data.get("group")).chunk(
        2, dim=1
    )  # [B, F]
    zero = (norms == 0) & (counts > 0)
    if not bool(zero.any()):
        return {}
    zeros = {
        name: zero[:, index].nonzero().flatten().tolist()
        for index, name in enumerate(slices)
    }
    return {name: graphs for name, graphs in zeros.items() if graphs}


def _errors_where(
    selected: Tensor,
    prediction: Tensor,
    target: Tensor,
    batch: Tensor | None,
    num_graphs: int,
    scale: Tensor | None,
    group: "ProcessGroup | None",
) -> Tensor:
    """Return the errors over selected points; NaN for graphs without these."""
    if batch is None:
        batch = torch.zeros(len(selected), dtype=torch.long, device=selected.device)
    counts = sum_over_graphs(selected.unsqueeze(1), batch, num_graphs, group)
    measured = counts.squeeze(1) > 0  # the same on all processes of the group
    rank = measured.cumsum(0) - 1  # index among the graphs with selected points
    dtype = result_dtype(prediction, target)
    errors = prediction.new_full((num_graphs,), torch.nan, dtype=dtype)
    if bool(measured.any()):
        relative = relative_l2(
            prediction[selected],
            target[selected],
            rank[batch[selected]],
            int(measured.sum()),
            group,
            zero_scale=scale,
        )
        errors[measured] = _infinite_where_nan(relative)
    return errors


def _infinite_where_nan(errors: Tensor) -> Tensor:
    return torch.where(errors.isnan(), torch.inf, errors)


def area_weighted_errors(
    prediction: Tensor, data: Data, fields: Fields
) -> dict[str, Tensor]:
    """Return the area-weighted relative error of each field of a sample.

    Args:
        prediction: The decoded fields, concatenated along the channels.
        data: The sample with the true fields as `y`; points where a field is not finite
            are ignored in its error. Points are weighted by `area`, or else by
            `weight`.
        fields: Names and channels of the columns.

    Shapes:
        - `prediction`: $[N, C]$

    Returns:
        One error by name of the field. Fields that are zero at all points with nonzero
        area are omitted, and all fields if the sample has neither `area` nor `weight`.
    """
    area = data.get("area") if data.get("area") is not None else data.get("weight")
    errors: dict[str, Tensor] = {}
    for name, columns in channel_slices(fields).items() if area is not None else ():
        true = data.y[:, columns]
        finite = true.isfinite().all(1)
        share, true = area.view(-1)[finite], true[finite]
        if bool((true.abs().amax(1) * share > 0).any()):
            (errors[name],) = area_weighted_relative_l2(
                prediction[finite][:, columns], true, share
            )
    return errors


def mean_over_fields(errors: Mapping[str, Tensor]) -> Tensor:
    """Return the mean over the fields of each sample's errors, $[B]$."""
    return torch.stack(list(errors.values())).mean(0)


def derivative_errors(
    prediction: Tensor, data: Data, fields: Fields, scale: Tensor | None = None
) -> Tensor:
    """Return the relative errors of both derivatives of each sample, $[B, 2]$.

    With several fields, the errors are averaged over the fields.

    Args:
        prediction: The decoded fields, concatenated along the channels.
        data: The sample or batch with the true fields as `y`, and `grid`, the same for
            all samples.
        fields: Names and channels of the columns.
        scale: Scale of each column over the training set; with `None`, zero fields
            raise an error.

    Shapes:
        - `prediction`: $[N, C]$
        - `scale`: $[C]$

    Raises:
        ValueError: If the samples have no grid or different grids, or their points are
            distributed over processes.
    """
    if data.get("group") is not None:
        raise ValueError(
            "derivatives need full grids, but the points of a sample are distributed "
            "over processes: set derivative_weight=0, or use another strategy"
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
    """Return the grid (H, W) of a sample, or the common grid of a batch."""
    grids = set(map(tuple, grid)) if isinstance(grid, list) else {grid}
    if len(grids) != 1 or None in grids:
        raise ValueError(
            f"derivatives need samples on one grid (H, W), got grid={grid}: set "
            "derivative_weight=0 in the recipe otherwise"
        )
    height, width = grids.pop()
    return height, width
