"""The sample that a surrogate takes for a mesh."""

import copy
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

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
from torch_geometric_flare.surrogates.normalized_model import NormalizedModel
from torch_geometric_flare.transforms import (
    CellsToEdge,
    Normalizer,
    SurfaceDistance,
    feature_key,
    quadrature_weights,
)

# Below this share of the points inside of the trained box, a prediction is a guess.
LEAST_SHARE = 0.8
# Of the values of a training, whatever their distribution, at least 89 % lie within so
# many deviations of their mean.
_DEVIATIONS = 3
_ROUNDING = 1e-5  # share of a bound by which a value that is the same may lie beyond it
_BRICK = 12  # the number of a hexahedron in VTK
# Where points count alike, a larger ratio of their areas changes the prediction.
_LARGEST_SPREAD = 10
_FEWEST = 20  # points that have a distribution


@dataclass(frozen=True)
class MeshSample:
    """A mesh, and the sample that a surrogate takes for it.

    Args:
        mesh: A copy of the mesh without hidden parts.
        name: What messages call it.
        data: The sample, on the device of the surrogate.
        outside: Which points lie outside of the box of the training, [N].
        surrogate: What predicts it, with or without weights as was asked for.
        weights: Where the weights are from, for the notes.
        guard: What to do with a mesh that is not like the training samples.
        location: Where the points of the sample lie: `"cell"` or `"point"`.
        fields: The fields of the surrogate, with the names of arrays on this mesh.
    """

    mesh: Any
    name: str
    data: Data
    outside: Tensor
    surrogate: NormalizedModel
    weights: str
    guard: str
    location: str
    fields: Fields

    @property
    def is_judged(self) -> bool:
        """Whether there is a guard that is to judge it."""
        return self.guard != "off" and self.surrogate.guard is not None


def read_sample(
    surrogate: NormalizedModel,
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
    # Meshes need pyvista, which a surrogate can do without.
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
        path, mesh = Path(mesh), mesh_io.read_mesh(mesh)
        mesh_io.add_case(mesh, path, features + conditions, constants)
    else:
        mesh = mesh_io.visible_part(mesh_io.as_mesh(mesh)).copy()
    if cells and mesh.n_cells == 0:
        raise ValueError(
            f"{name} has no cells: predict at its points, location='point'"
        )
    points = (mesh.cell_centers() if cells else mesh).points
    pos, outside = _check_place(
        torch.tensor(points, dtype=torch.float64) * scale, surrogate, name, prefix
    )
    data = Data(pos=torch.from_numpy(narrow(pos.numpy())))
    given = {*constants, *mesh.point_data, *mesh.field_data}
    made = {} if cells else _surface_distance(mesh, data, features, given)
    of_sample = {field.name for field in conditions}
    try:
        mesh_io.check_constants(constants, features + conditions)
        inputs = made | mesh_io.find_features(
            mesh,
            tuple(feature for feature in features if feature.name not in made),
            {k: v for k, v in constants.items() if k not in of_sample},
            cells=cells,
            scale=scale,
        )
        numbers = mesh_io.find_conditions(
            mesh,
            conditions,
            {k: v for k, v in constants.items() if k in of_sample},
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
    mesh: Any, data: Data, features: Fields, given: Set[str]
) -> dict[str, Tensor]:
    """Compute `SurfaceDistance` on a mesh of bricks that does not bring it."""
    transform = SurfaceDistance()
    (made,) = transform.fields(data.pos.size(1))
    asked = [f for f in features if (f.name, f.channels) == (made.name, made.channels)]
    if not asked or {asked[0].name, asked[0].array} & given:
        return {}
    if set(getattr(mesh, "celltypes", ())) != {_BRICK}:
        return {}
    cells = torch.as_tensor(mesh.cells_dict[_BRICK], dtype=torch.long)
    sample = Data(x=data.pos, pos=data.pos, cells=cells)
    sample = transform(CellsToEdge("hexahedron")(sample))
    return {made.name: sample[feature_key(made.name)]}


def check_range(
    bounds: tuple[Sequence[float], Sequence[float]] | None,
    normalizer: Normalizer | None,
    features: Fields,
    inputs: Mapping[str, Tensor],
    name: str,
) -> None:
    """Warn about features or conditions that the training did not see."""
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
            found = f"{least:g}" if least == most else f"{least:g} to {most:g}"
            warnings.warn(
                f"{feature.name}{of} of {name} is {found}{unit}, but the model was "
                f"trained on {low[columns][channel]:.4g} to "
                f"{high[columns][channel]:.4g}{unit}{rule}: expect large errors",
                stacklevel=5,
            )


def _weigh(
    surrogate: NormalizedModel,
    weight: str | None,
    mesh: Any,
    data: Data,
    cells: bool,
    name: str,
) -> tuple[NormalizedModel, str]:
    """Give the points their weights; return what predicts, and a note about them."""
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
    return surrogate, "estimated from the nearest neighbours of each point"


def _spread(weights: Tensor | None) -> float:
    """Return the ratio of large to small weights, without the extreme twentieths."""
    if weights is None or len(weights) < _FEWEST:
        return 1.0
    ordered = weights[weights > 0].sort().values
    ends = [int(share * (len(ordered) - 1)) for share in (0.05, 0.95)]
    return (ordered[ends[1]] / ordered[ends[0]]).item()


def judge_sample(sample: MeshSample, summary: Tensor | None) -> str:
    """Return what the guard says of a mesh, and warn or raise if it is not inside.

    Args:
        sample: The mesh.
        summary: What the guard compares; `None` where the sample is not judged.
    """
    guard = sample.surrogate.guard
    if sample.guard == "off":
        return "off"
    if guard is None or summary is None:
        return "none: the checkpoint holds no guard"
    verdict = guard.judge(summary, sample.surrogate.conditions)
    if verdict.label != "inside":
        text = f"{sample.name} is {verdict}"
        if sample.guard == "error":
            raise ValueError(f"{text}: guard='warn' predicts all the same")
        warnings.warn(text, stacklevel=4)
    return str(verdict)


def _check_place(
    pos: Tensor, surrogate: NormalizedModel, name: str, prefix: str
) -> tuple[Tensor, Tensor]:
    """Return the coordinates that the model takes, and which lie outside of its box.

    Raises `ValueError` for a mesh far from the box.
    """
    from torch_geometric_flare import mesh_io

    box = surrogate.coordinate_normalizer
    if box is None:
        raise ValueError("the surrogate has no coordinate_normalizer: train with one")
    lower, size = box.shift.double().cpu(), box.scale.double().cpu()
    if (pos != pos[0])[:, len(size) :].any():
        raise ValueError(f"{name} is not flat, but the model was trained in the plane")
    pos = pos[:, : len(size)]
    try:
        inside = mesh_io.check_extent(pos, lower, lower + size)
    except ValueError as error:
        raise ValueError(f"{prefix}{error}") from error
    warn_of_share(inside, name)
    return pos, ~inside


def warn_of_share(inside: Tensor, name: str) -> None:
    """Warn if few points lie in the box of the training.

    Args:
        inside: Which do, [N].
        name: What the points are, for the message.
    """
    share = inside.double().mean().item()
    if share < LEAST_SHARE:
        warnings.warn(
            f"only {share:.0%} of {name} lies in the box that the model was trained "
            "on: expect large errors outside of it",
            stacklevel=6,
        )
