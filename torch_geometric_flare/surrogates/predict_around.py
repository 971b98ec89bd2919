"""Predict around a mesh, on a slice, box or point cloud."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare._precision import narrow
from torch_geometric_flare.fields import Fields
from torch_geometric_flare.surrogates.mesh_sample import (
    check_range,
    in_dimension,
    judge_sample,
    read_sample,
    refuse_gaps,
    training_box,
    warn_of_share,
)
from torch_geometric_flare.surrogates.normalized_points import NormalizedPoints
from torch_geometric_flare.surrogates.predict_mesh import add_fields, sample_notes
from torch_geometric_flare.transforms import feature_key

if TYPE_CHECKING:
    from torch_geometric_flare.surrogates.query_surrogate import QuerySurrogate


def find_site(surrogate: "QuerySurrogate", at: Any, scale: float) -> Any:
    """Return the query points of `at`; see `QuerySurrogate.predict_around`."""
    from torch_geometric_flare import mesh_io

    if isinstance(at, str):
        at = mesh_io.QuerySite.parse(at)
    if not isinstance(at, mesh_io.QuerySite):
        return at
    lower, upper = training_box(surrogate.query)
    return at.dataset((lower / scale).tolist(), (upper / scale).tolist())


def predict_around(
    surrogate: "QuerySurrogate",
    mesh: Any,
    at: Any,
    *,
    constants: Mapping[str, Sequence[float]] | None = None,
    scale: float = 1.0,
    **options: Any,
) -> Any:
    """Return the fields around a mesh; see `QuerySurrogate.predict_around`."""
    from torch_geometric_flare import mesh_io

    query, name = surrogate.query, "the place"
    constants = constants or {}
    body_fields = surrogate.features + surrogate.conditions
    mesh_io.check_constants(constants, body_fields + query.features)
    body, around = (
        {key: value for key, value in constants.items() if key in {f.name for f in fs}}
        for fs in (body_fields, query.features)
    )
    sample = read_sample(surrogate, mesh, constants=body, scale=scale, **options)
    site = find_site(surrogate, at, scale)
    # Keep a grid: as an unstructured mesh it would be many times as large.
    is_grid = hasattr(site, "dimensions")
    where = (site if is_grid else mesh_io.as_mesh(site, "at")).copy()
    pos, outside = _check_site(
        torch.tensor(where.points, dtype=torch.float64) * scale, query
    )
    inputs = _features(query.features, where, sample.mesh, around, scale)
    if query.features:
        check_range(None, query.input_normalizer, query.features, inputs, name)
    points = Data(query_pos=torch.from_numpy(narrow(pos.numpy())))
    for feature, column in inputs.items():
        points[f"query_{feature_key(feature)}"] = column
    device = surrogate.target_normalizer.shift.device
    encoder = cast("QuerySurrogate", sample.surrogate)  # may use weights
    state = encoder.encode(sample.data)
    verdict = judge_sample(sample, state.pooled() if sample.is_judged else None)
    predicted = surrogate.predict_at(state, points.to(device)).cpu()
    refuse_gaps(predicted, name)
    inside = mesh_io.points_inside(sample.mesh, where.points)
    if inside is not None:
        predicted[torch.from_numpy(inside)] = torch.nan
    notes = sample_notes(sample, verdict)
    notes["points_inside"] = (
        "not known: the body is not a closed surface"
        if inside is None
        else str(inside.sum())
    )
    values = query.split(predicted)
    add_fields(where, query.fields, values, "point", notes, name, outside=outside)
    return where


def _features(
    features: Fields,
    where: Any,
    body: Any,
    constants: Mapping[str, Sequence[float]],
    scale: float,
) -> dict[str, Tensor]:
    """Return the named inputs of query points, including distances to the body."""
    from torch_geometric_flare import mesh_io

    names = {*constants, *where.point_data, *where.field_data}
    missing = tuple(f for f in features if not {f.name, f.array} & names)
    distances = mesh_io.distance_features(body, where.points, missing, scale)
    others = tuple(feature for feature in features if feature.name not in distances)
    inputs = distances | mesh_io.find_features(where, others, constants, scale=scale)
    return {feature.name: inputs[feature.name] for feature in features}


def _check_site(pos: Tensor, query: NormalizedPoints) -> tuple[Tensor, Tensor]:
    """Return the coordinates that the model takes and which lie outside its box."""
    from torch_geometric_flare.mesh_io.extent import describe_box, inside_box

    lower, upper = training_box(query)
    pos = in_dimension(pos, len(lower), "the place")
    inside = inside_box(pos, lower, upper)
    if not inside.any():
        raise ValueError(
            f"the place extends over {describe_box(pos.amin(0), pos.amax(0))}, but the "
            f"model was trained on {describe_box(lower, upper)}: give points in that "
            "box, or scale=FACTOR for other units of length"
        )
    warn_of_share(inside, "the place")
    return pos, ~inside
