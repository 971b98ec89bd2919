"""Convert a mesh to the sample that a surrogate takes."""

import copy
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare._arguments import expand_path
from torch_geometric_flare._precision import narrow
from torch_geometric_flare.fields import (
    Field,
    Fields,
    channel_slices,
    choose_arrays,
    num_channels,
)
from torch_geometric_flare.nn.wrappers import unwrap
from torch_geometric_flare.surrogates.arguments import supports_weights
from torch_geometric_flare.surrogates.guarded_model import GuardedModel
from torch_geometric_flare.surrogates.normalized_points import NormalizedPoints
from torch_geometric_flare.transforms import (
    CellsToEdge,
    Normalizer,
    SurfaceDistance,
    feature_key,
    quadrature_weights,
)

# Warn if a smaller share of the points lies inside the training box.
LEAST_SHARE = 0.8
# At least 89 % of the training values lie within so many standard deviations of their
# mean, for any distribution.
_DEVIATIONS = 3
_ROUNDING = 1e-5  # tolerance at a bound, as a share of the bound
_BRICK = 12  # VTK's cell type of a hexahedron
# With equal weights, a larger ratio of areas changes the prediction.
_LARGEST_SPREAD = 10
_FEWEST = 20  # fewest points for a spread


@dataclass(frozen=True)
class MeshSample:
    """A mesh and its sample for a surrogate.

    Args:
        mesh: A copy of the mesh without hidden parts.
        name: Name of the mesh in messages.
        data: The sample, on the device of the surrogate.
        outside: Whether each point lies outside the training box, [N].
        surrogate: The surrogate, with or without weights as requested.
        weights: Source of the weights, for the notes.
        guard: What to do if the mesh is unlike the training samples.
        location: Where the points of the sample lie: `"cell"` or `"point"`.
        fields: The fields of the surrogate, with the names of arrays on this mesh.
    """

    mesh: Any
    name: str
    data: Data
    outside: Tensor
    surrogate: GuardedModel
    weights: str
    guard: str
    location: str
    fields: Fields

    @property
    def is_judged(self) -> bool:
        """Whether a guard is to judge the sample."""
        return self.guard != "off" and self.surrogate.guard is not None


def read_sample(
    surrogate: GuardedModel,
    mesh: str | os.PathLike[str] | Any,
    *,
    location: str | None = None,
    constants: Mapping[str, Sequence[float]] | None = None,
    scale: float = 1.0,
    arrays: Iterable[Field] = (),
    weight: str | None = None,
    guard: str = "warn",
) -> MeshSample:
    """Return the sample of a mesh; arguments and errors of `Surrogate.predict_mesh`."""
    # Imported here because it needs pyvista, which a surrogate does not.
    from torch_geometric_flare import mesh_io

    mesh_io.check_location(location)
    if guard not in ("warn", "error", "off"):
        raise ValueError(f"guard is {guard!r}, expected 'warn', 'error' or 'off'")
    constants = constants or {}
    trained = surrogate.location
    if None not in (location, trained) and location != trained:
        warnings.warn(
            f"predicting at the {location}s of the mesh, but the model was trained at "
            f"the {trained}s",
            stacklevel=4,
        )
    location = location or trained or "point"
    named = surrogate.fields, surrogate.features, surrogate.conditions
    chosen = iter(choose_arrays(sum(named, ()), tuple(arrays)))
    fields, features, conditions = (tuple(islice(chosen, len(n))) for n in named)
    if not 0 < scale < float("inf"):
        raise ValueError(f"scale must be finite and above zero, got {scale}")
    cells = location == "cell"
    name, prefix = "the mesh", ""
    if isinstance(mesh, str | os.PathLike):
        name, prefix = str(mesh), f"{mesh}: "
        path, mesh = expand_path(mesh), mesh_io.read_mesh(mesh)
        mesh_io.add_case(mesh, path, features + conditions, constants)
    else:
        mesh = mesh_io.visible_part(mesh_io.as_mesh(mesh)).copy()
    if cells and mesh.n_cells == 0:
        raise ValueError(
            f"{name} has no cells: predict at its points, location='point'"
        )
    if surrogate.surface and mesh.n_cells and mesh.get_cell(0).dimension == 3:
        warnings.warn(
            f"{name} has volume cells, but the model was trained on surfaces: predict "
            "on its boundary, mesh.extract_surface()",
            stacklevel=4,
        )
    points = (mesh.cell_centers() if cells else mesh).points
    pos, outside = _check_place(
        torch.tensor(points, dtype=torch.float64) * scale, surrogate, name, prefix
    )
    data = Data(pos=torch.from_numpy(narrow(pos.numpy())))
    names = {*constants, *mesh.point_data, *mesh.field_data}
    computed = {} if cells else _surface_distance(mesh, data, features, names)
    condition_names = {field.name for field in conditions}
    try:
        mesh_io.check_constants(constants, features + conditions)
        inputs = computed | mesh_io.find_features(
            mesh,
            tuple(feature for feature in features if feature.name not in computed),
            {k: v for k, v in constants.items() if k not in condition_names},
            cells=cells,
            scale=scale,
        )
        numbers = mesh_io.find_conditions(
            mesh,
            conditions,
            {k: v for k, v in constants.items() if k in condition_names},
        )
    except ValueError as error:
        raise ValueError(f"{prefix}{error}") from error
    bounds = surrogate.feature_bounds
    check_range(bounds, surrogate.input_normalizer, features, inputs, name)
    bounds = surrogate.condition_bounds
    check_range(bounds, surrogate.condition_normalizer, conditions, numbers, name)
    if conditions:
        data.u = torch.cat(list(numbers.values()), dim=1)
    for feature, column in inputs.items():
        data[feature_key(feature)] = column
    surrogate, weights = _weigh(surrogate, weight, mesh, data, cells, name)
    data = data.to(surrogate.target_normalizer.shift.device)
    return MeshSample(
        mesh, name, data, outside, surrogate, weights, guard, location, fields
    )


def _surface_distance(
    mesh: Any, data: Data, features: Fields, names: Set[str]
) -> dict[str, Tensor]:
    """Compute `SurfaceDistance` on a mesh of bricks that lacks it."""
    transform = SurfaceDistance()
    (field,) = transform.fields(data.pos.size(1))
    wanted = [
        f for f in features if (f.name, f.channels) == (field.name, field.channels)
    ]
    if not wanted or {wanted[0].name, wanted[0].array} & names:
        return {}
    if set(getattr(mesh, "celltypes", ())) != {_BRICK}:
        return {}
    cells = torch.as_tensor(mesh.cells_dict[_BRICK], dtype=torch.long)
    sample = Data(x=data.pos, pos=data.pos, cells=cells)
    sample = transform(CellsToEdge("hexahedron")(sample))
    return {field.name: sample[feature_key(field.name)]}


def check_range(
    bounds: tuple[Sequence[float], Sequence[float]] | None,
    normalizer: Normalizer | None,
    features: Fields,
    inputs: Mapping[str, Tensor],
    name: str,
) -> None:
    """Warn about features or conditions outside their training range."""
    number = num_channels(features)
    rule = ""
    if bounds is not None:
        low, high = (torch.tensor(values, dtype=torch.float64) for values in bounds)
    elif normalizer is not None:
        mean, deviation = (
            values[-number:].double().cpu()
            for values in (normalizer.shift, normalizer.scale)
        )
        low, high = mean - _DEVIATIONS * deviation, mean + _DEVIATIONS * deviation
        rule = f" (mean ± {_DEVIATIONS} deviations)"
    else:
        return
    slack = _ROUNDING * torch.maximum(low.abs(), high.abs())
    for feature in features:
        columns = channel_slices(features)[feature.name]
        values = inputs[feature.name]
        inside = (values >= (low - slack)[columns]) & (
            values <= (high + slack)[columns]
        )
        for channel, share in enumerate(inside.float().mean(0).tolist()):
            if share >= LEAST_SHARE:
                continue
            of = f"[{channel}]" if feature.channels > 1 else ""
            least, most = values[:, channel].aminmax()
            unit = f" {feature.unit}" if feature.unit else ""
            span = f"{least:g}" if least == most else f"{least:g} to {most:g}"
            warnings.warn(
                f"{feature.name}{of} of {name} is {span}{unit}, but the model was "
                f"trained on {low[columns][channel]:.4g} to "
                f"{high[columns][channel]:.4g}{unit}{rule}: expect large errors",
                stacklevel=5,
            )


def _weigh(
    surrogate: GuardedModel,
    weight: str | None,
    mesh: Any,
    data: Data,
    cells: bool,
    name: str,
) -> tuple[GuardedModel, str]:
    """Set the weights of the points; return the surrogate to use and a note."""
    from torch_geometric_flare import mesh_io

    if weight not in ("area", "none", None):
        raise ValueError(f"weight is {weight!r}, expected 'area' or 'none'")
    weighted = surrogate.weighted if weight is None else weight == "area"
    supported = supports_weights(surrogate.model)
    if weighted and not supported:
        raise ValueError(
            f"weight is 'area', but {type(unwrap(surrogate.model)).__name__} takes no "
            "weights: leave it out"
        )
    if weighted != surrogate.weighted:
        surrogate = copy.copy(surrogate)
        surrogate.weighted = weighted
    if not weighted and (weight is not None or not supported):
        return surrogate, "none"
    measure = mesh_io.mesh_weights(mesh, cells=cells)
    if not weighted:
        spread = _spread(measure)
        if spread > _LARGEST_SPREAD:
            warnings.warn(
                f"the {'cells' if cells else 'points'} of {name} stand for areas that "
                f"differ {spread:.0f}-fold, and the model counts each alike, so that "
                "the prediction depends on the mesh: pass weight='area' if the points "
                "of its training were spread evenly",
                stacklevel=5,
            )
        return surrogate, "none"
    if measure is not None:
        data.weight = measure
        return surrogate, "from the cells of the mesh"
    data.weight = quadrature_weights(data.pos, surface=data.pos.size(1) == 3).float()
    return surrogate, "estimated from the nearest neighbors of each point"


def _spread(weights: Tensor | None) -> float:
    """Return the ratio of the 95th to the 5th percentile of the weights."""
    if weights is None or len(weights) < _FEWEST:
        return 1.0
    ordered = weights[weights > 0].sort().values
    ends = [int(share * (len(ordered) - 1)) for share in (0.05, 0.95)]
    return (ordered[ends[1]] / ordered[ends[0]]).item()


def refuse_gaps(predicted: Tensor, name: str) -> None:
    """Raise `ValueError` if a prediction on the mesh of this name is not finite."""
    if not predicted.isfinite().all():
        raise ValueError(f"the model predicts values on {name} that are not finite")


def judge_sample(sample: MeshSample, summary: Tensor | None) -> str:
    """Return the guard's verdict on a mesh; warn or raise if it is not inside.

    Args:
        sample: The mesh.
        summary: Input of the guard; `None` if the sample is not judged.
    """
    guard = sample.surrogate.guard
    if sample.guard == "off":
        return "off"
    if guard is None or summary is None:
        return "none: the checkpoint holds no guard"
    surrogate = sample.surrogate
    verdict = guard.judge(summary, surrogate.conditions, surrogate.condition_normalizer)
    if verdict.label != "inside":
        text = f"{sample.name} is {verdict}"
        if sample.guard == "error":
            raise ValueError(f"{text}: guard='warn' predicts all the same")
        warnings.warn(text, stacklevel=4)
    return str(verdict)


def _check_place(
    pos: Tensor, surrogate: GuardedModel, name: str, prefix: str
) -> tuple[Tensor, Tensor]:
    """Return the coordinates that the model takes and which lie outside its box."""
    from torch_geometric_flare import mesh_io

    lower, upper = training_box(surrogate)
    pos = in_dimension(pos, len(lower), name)
    try:
        inside = mesh_io.check_extent(pos, lower, upper)
    except ValueError as error:
        raise ValueError(f"{prefix}{error}") from error
    warn_of_share(inside, name)
    return pos, ~inside


def training_box(points: NormalizedPoints) -> tuple[Tensor, Tensor]:
    """Return the corners of the training box of a surrogate or its query points."""
    box = points.coordinate_normalizer
    if box is None:
        kind = type(points).__name__
        raise ValueError(f"the {kind} has no coordinate_normalizer: train with one")
    lower = box.shift.double().cpu()
    return lower, lower + box.scale.double().cpu()


def in_dimension(pos: Tensor, dimension: int, name: str) -> Tensor:
    """Return the first coordinates of points [N, 3]; raise if the others vary."""
    if (pos != pos[0])[:, dimension:].any():
        raise ValueError(f"{name} is not flat, but the model was trained in the plane")
    return pos[:, :dimension]


def warn_of_share(inside: Tensor, name: str) -> None:
    """Warn if few of the points of this name lie `inside` the training box."""
    share = inside.double().mean().item()
    if share < LEAST_SHARE:
        warnings.warn(
            f"only {share:.0%} of {name} lies in the box that the model was trained "
            "on: expect large errors outside of it",
            stacklevel=6,
        )
