"""Derivatives of a force, or another scalar of the fields, by vertex positions."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torch_geometric_flare.fields import Fields, channel_slices
from torch_geometric_flare.metrics import force_coefficients
from torch_geometric_flare.metrics.forces import ForceCoefficients
from torch_geometric_flare.nn.wrappers import unwrap
from torch_geometric_flare.surrogates.guarded_model import GuardedModel
from torch_geometric_flare.surrogates.mesh_sample import (
    MeshSample,
    read_sample,
    refuse_gaps,
)
from torch_geometric_flare.surrogates.predict_mesh import add_fields, sample_notes
from torch_geometric_flare.surrogates.surface_geometry import SurfaceGeometry
from torch_geometric_flare.transforms import feature_key

_ROUNDING = 1e-5

Quantity = str | Callable[[Mapping[str, Tensor], SurfaceGeometry], Tensor]


@dataclass(frozen=True)
class Flow:
    """Reference values of force coefficients, as for `metrics.mesh_forces`.

    Args:
        speed: Free-stream speed in m/s.
        reference_area: Reference area in m².
        density: Density in kg/m³ if the pressure is in Pa; `None` if it is kinematic.
        pressure: Name of the pressure field.
    """

    speed: float
    reference_area: float
    density: float | None = None
    pressure: str = "pressure"


@dataclass(frozen=True)
class Sensitivity:
    r"""A scalar of a predicted mesh and its derivatives.

    Attributes:
        value: The scalar, such as the drag coefficient.
        mesh: With `wrt="pos"`, the predicted mesh with these arrays at its vertices,
            where `drag` stands for the name of the quantity:

            - `drag_gradient`, the derivative by each vertex, $[V, 3]$, per unit of
              length of the mesh;
            - `drag_normal_gradient`, the derivative by a displacement along the outward
              normal, per area, $[V]$: the integral over the surface of this times a
              displacement is the change;
            - with `smoothing`, `drag_smooth_gradient`, the same smoothed, $[V]$, and
              `drag_displacement`, the direction along the normals that lowers the
              quantity, scaled so that the longest vector has length one, $[V, 3]$.
        conditions: With `wrt="u"`, the derivative by each condition, in physical units.
    """

    value: float
    mesh: Any = None
    conditions: Mapping[str, Tensor] | None = None


def mesh_sensitivity(
    surrogate: GuardedModel,
    mesh: Any,
    quantity: Quantity,
    *,
    wrt: str,
    flow: Flow | None,
    smoothing: float | None,
    chunk_size: int | None,
    scale: float,
    **options: Any,
) -> Sensitivity:
    """Return a scalar and its derivatives; see `Surrogate.sensitivity`."""
    if wrt not in ("pos", "u"):
        raise ValueError(f"wrt is {wrt!r}, expected 'pos' or 'u'")
    if wrt == "u" and not surrogate.conditions:
        raise ValueError("wrt is 'u', but the surrogate has no conditions")
    if smoothing is not None and not smoothing > 0:
        raise ValueError(f"smoothing must be a length above zero, got {smoothing}")
    measure = _measure(quantity, flow, surrogate.fields, scale)
    sample = read_sample(surrogate, mesh, scale=scale, guard="off", **options)
    geometry = _geometry(sample)
    data = sample.data
    points = geometry.points.requires_grad_(wrt == "pos")
    if wrt == "pos":
        _attach(data, geometry, scale)
    else:
        data.u = data.u.double().requires_grad_()
    model = _in_chunks(sample.surrogate, chunk_size).eval()
    with torch.enable_grad():
        predicted: Tensor = model(data)
        fields = {
            name: predicted[:, columns]
            for name, columns in channel_slices(sample.fields).items()
        }
        value = measure(fields, geometry)
    refuse_gaps(predicted, sample.name)
    if value.numel() != 1:
        raise ValueError(
            f"quantity returned the shape {tuple(value.shape)}, expected one number"
        )
    (gradient,) = torch.autograd.grad(value.sum(), points if wrt == "pos" else data.u)
    number = float(value.detach())
    if wrt == "u":
        slices = channel_slices(surrogate.conditions)
        by_name = {name: gradient[0, columns].cpu() for name, columns in slices.items()}
        return Sensitivity(number, conditions=by_name)
    name = quantity if isinstance(quantity, str) else _name(quantity)
    written = _write(sample, geometry, fields, gradient, name, smoothing)
    return Sensitivity(number, mesh=written)


def _geometry(sample: MeshSample) -> SurfaceGeometry:
    from torch_geometric_flare import mesh_io

    faces = mesh_io.oriented_faces(sample.mesh, "forces")
    device = sample.surrogate.target_normalizer.shift.device
    points = torch.tensor(faces.points, dtype=torch.float64, device=device)
    cells = sample.location == "cell"
    return SurfaceGeometry.of_mesh(faces, points, cells=cells)


def _attach(data: Any, geometry: SurfaceGeometry, scale: float) -> None:
    """Make geometric fields depend on the vertices without changing their values."""
    width = data.pos.size(1)
    computed = {
        "pos": geometry.pos[:, :width] * scale,
        "weight": geometry.area,
        feature_key("normal"): geometry.normal,
        feature_key("area"): geometry.area[:, None] * scale**2,
    }
    for key, value in computed.items():
        if key in data:
            original = data[key].double()
            value = value.view(original.shape)
            # Arrays of the mesh and VTK's polygon centers keep their values; values
            # computed in single precision are replaced.
            offset = original - value.detach()
            rounding = _ROUNDING * original.abs().max()
            data[key] = value + torch.where(offset.abs() > rounding, offset, 0.0)


def _in_chunks(surrogate: GuardedModel, size: int | None) -> GuardedModel:
    """Return the surrogate, or a copy that processes `size` points at a time."""
    if size is None:
        return surrogate
    if not hasattr(unwrap(surrogate.model), "chunk_size"):
        raise ValueError("chunk_size is given, but this model has no chunk_size")
    # Shallow copies share all parameters.
    copied = copy.copy(surrogate)
    model: Any = copy.copy(unwrap(surrogate.model))
    model.chunk_size = size
    copied._modules = {**surrogate._modules, "model": model}
    return copied


def _measure(
    quantity: Quantity, flow: Flow | None, fields: Fields, scale: float
) -> Callable[[Mapping[str, Tensor], SurfaceGeometry], Tensor]:
    """Return the function that computes the scalar from the fields."""
    if callable(quantity):
        return quantity
    names = ForceCoefficients._fields
    if quantity not in names:
        raise ValueError(
            f"quantity is {quantity!r}, expected one of {names}, or a function"
        )
    if flow is None:
        raise ValueError(
            f"flow is None, but {quantity} needs it: pass "
            "flow=Flow(speed=..., reference_area=...)"
        )
    if flow.pressure not in {field.name for field in fields}:
        raise ValueError(
            f"pressure is {flow.pressure!r}, but the surrogate predicts "
            f"{[field.name for field in fields]}"
        )

    reference = flow  # not None, also for the type checker in the closure

    def force(values: Mapping[str, Tensor], geometry: SurfaceGeometry) -> Tensor:
        pressure = values[reference.pressure].double().squeeze(1)
        pressure = pressure / (reference.density or 1.0)
        coefficients = force_coefficients(
            geometry.on_triangles(pressure),
            geometry.fans * scale**2,
            torch.ones_like(geometry.fans[:, 0]),
            speed=reference.speed,
            reference_area=reference.reference_area,
        )
        coefficient: Tensor = coefficients._asdict()[quantity][0]
        return coefficient

    return force


def _name(quantity: Callable[..., Tensor]) -> str:
    name = getattr(quantity, "__name__", "quantity")
    return name if name.isidentifier() else "quantity"


def _write(
    sample: MeshSample,
    geometry: SurfaceGeometry,
    fields: Mapping[str, Tensor],
    gradient: Tensor,
    name: str,
    smoothing: float | None,
) -> Any:
    """Return the mesh with the fields and the derivatives at its vertices."""
    from torch_geometric_flare import mesh_io

    mesh = sample.mesh
    add_fields(
        mesh,
        sample.fields,
        {field: values.detach() for field, values in fields.items()},
        sample.location,
        sample_notes(sample, sample.guard),
        sample.name,
        outside=sample.outside,
    )
    at_points = SurfaceGeometry(
        geometry.points.detach(), geometry.corner, geometry.face, cells=False
    )
    normal, area = at_points.normal, at_points.area
    along = (gradient * normal).sum(1)
    per_area = torch.where(area > 0, along / area.clamp(min=1e-300), 0.0)
    arrays = {"gradient": gradient, "normal_gradient": per_area}
    if smoothing is not None:
        faces = mesh_io.oriented_faces(mesh)
        smooth = torch.from_numpy(
            mesh_io.sobolev_smooth(faces, along.cpu().numpy(), smoothing)
        ).to(along.device)
        arrays["smooth_gradient"] = smooth
        largest = smooth.abs().max().clamp(min=1e-300)
        arrays["displacement"] = -(smooth / largest)[:, None] * normal
    for kind, values in arrays.items():
        mesh.point_data[f"{name}_{kind}"] = values.detach().cpu().numpy()
    return mesh
