"""Force and moment coefficients from the stresses on a surface."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from torch_geometric_flare._arguments import check_numbers
from torch_geometric_flare.functional.checks import check_given
from torch_geometric_flare.metrics.graph_sum import column, graph_sum, widen


class ForceCoefficients(NamedTuple):
    """Dimensionless forces on each body.

    Attributes:
        drag: Drag, along the flow, $+x$.
        lift: Lift, upward, $+z$.
    """

    drag: Tensor
    lift: Tensor


class MomentCoefficients(NamedTuple):
    """Dimensionless moments on each body, by the right-hand rule.

    Attributes:
        roll: About $+x$.
        pitch: About $+y$, nose up: positive for lift ahead of the reference point.
        yaw: About $+z$.
    """

    roll: Tensor
    pitch: Tensor
    yaw: Tensor


def force_coefficients(
    pressure: Tensor,
    normal: Tensor,
    area: Tensor,
    *,
    speed: float,
    reference_area: float,
    density: float = 1.0,
    batch: Tensor | None = None,
    batch_size: int | None = None,
    shear_stress: Tensor | None = None,
    total_area: Tensor | float | None = None,
) -> ForceCoefficients:
    r"""Return drag and lift of the stresses on closed surfaces.

    Pressure acts against the outward normal and shear along the surface, so with cells
    $i$

    $$
    F = \rho \sum_i (-p_i n_i + \tau_i) A_i, \qquad
    C_d = \frac{F_x}{\frac{1}{2} \rho U^2 A_\mathrm{ref}}, \qquad
    C_l = \frac{F_z}{\frac{1}{2} \rho U^2 A_\mathrm{ref}}
    $$

    for flow along $+x$ with $z$ up. $\tau$ is the stress that the fluid exerts on the
    surface. It points downstream where the flow is attached. In contrast, OpenFOAM's
    `wallShearStress`, and thus `wall_shear_stress` of `DrivAerML`, is the stress on the
    fluid and points upstream: pass its negative.

    Sums are computed in double precision, because the force is a small difference of
    large terms. The result is twice differentiable.

    Normals and areas are those of cells. For values at the vertices of a mesh, use
    `mesh_forces`, because unit normals at vertices times areas do not sum to zero on a
    closed body with sharp edges.

    A subset of the cells has a smaller area and force than the body. Draw it with
    `transforms.AreaWeightedPoints`, which rescales areas, or pass `total_area`.

    Args:
        pressure: Kinematic pressure $p$ (pressure over density) in m²/s², relative to
            the free stream.
        normal: Outward unit normals.
        area: Cell areas in m².
        speed: Free-stream speed $U$ in m/s.
        reference_area: Reference area in m².
        density: Density $\rho$ in kg/m³. It converts the force to newtons and cancels
            in the coefficients.
        batch: Body of each cell, sorted; `None` for a single body.
        batch_size: Number of bodies. Default: the largest index in `batch` plus one.
        shear_stress: Kinematic shear stress $\tau$ (over density) of the fluid on the
            surface, in m²/s²; `None` to omit it.
        total_area: Total area of each body in m², if the cells are a subset of its
            cells; areas are scaled so that they sum to it. `None` uses the areas
            unchanged.

    Shapes:
        - `pressure`, `area`: $[N]$ or $[N, 1]$
        - `normal`, `shear_stress`: $[N, 3]$
        - `batch`: $[N]$, `torch.long`
        - `total_area`: $[B]$, or one number for all bodies

    Returns:
        `drag` and `lift`, each $[B]$ in double precision, zero for bodies without
        cells.

    Raises:
        ValueError: If a shape does not fit, an area is negative or non-finite, `speed`,
            `reference_area` or `density` is not positive, or a `total_area` is not
            positive or belongs to a body whose cells have no area.
    """
    _check_positive(speed=speed, reference_area=reference_area, density=density)
    forces = density * _forces_on_cells(pressure, normal, area, shear_stress)
    force = _sum_over_bodies(forces, area, total_area, batch, batch_size)  # [B, 3]
    coefficients = force / (0.5 * density * speed**2 * reference_area)
    return ForceCoefficients(drag=coefficients[:, 0], lift=coefficients[:, 2])


def moment_coefficients(
    pressure: Tensor,
    normal: Tensor,
    area: Tensor,
    pos: Tensor,
    *,
    speed: float,
    reference_area: float,
    reference_length: float,
    reference_point: Sequence[float] = (0.0, 0.0, 0.0),
    batch: Tensor | None = None,
    batch_size: int | None = None,
    shear_stress: Tensor | None = None,
    total_area: Tensor | float | None = None,
) -> MomentCoefficients:
    r"""Return the moments of the stresses on closed surfaces.

    With the forces $f_i = (-p_i n_i + \tau_i) A_i$ on the cells, see
    `force_coefficients`,

    $$
    C_m = \frac{\sum_i (r_i - r_\mathrm{ref}) \times f_i}
               {\frac{1}{2} U^2 A_\mathrm{ref} L_\mathrm{ref}}
    $$

    If the reference point is halfway between the axles of a car and the reference
    length is their distance, the lift coefficients of the front and rear axles are
    $\frac{1}{2} C_l \pm C_{m,y}$.

    Sums are computed in double precision. The result is twice differentiable.

    Args:
        pressure: Kinematic pressure $p$ (pressure over density) in m²/s², relative to
            the free stream.
        normal: Outward unit normals.
        area: Cell areas in m².
        pos: Cell centers in m.
        speed: Free-stream speed $U$ in m/s.
        reference_area: Reference area in m².
        reference_length: Reference length in m.
        reference_point: Reference point of the moments in m.
        batch: Body of each cell, sorted; `None` for a single body.
        batch_size: Number of bodies. Default: the largest index in `batch` plus one.
        shear_stress: Kinematic shear stress of the fluid on the surface in m²/s², as in
            `force_coefficients`; `None` to omit it.
        total_area: Total area of each body in m², if the cells are a subset of its
            cells, as in `force_coefficients`.

    Shapes:
        - `pressure`, `area`: $[N]$ or $[N, 1]$
        - `normal`, `pos`, `shear_stress`: $[N, 3]$
        - `batch`: $[N]$, `torch.long`
        - `total_area`: $[B]$, or one number for all bodies

    Returns:
        `roll`, `pitch` and `yaw`, each $[B]$ in double precision, zero for bodies
        without cells.

    Raises:
        ValueError: If a shape does not fit, an area is negative or non-finite, `speed`,
            `reference_area` or `reference_length` is not positive, or a `total_area` is
            not positive or belongs to a body whose cells have no area.
    """
    _check_positive(
        speed=speed, reference_area=reference_area, reference_length=reference_length
    )
    forces = _forces_on_cells(pressure, normal, area, shear_stress)
    _check_vectors("pos", pos, forces.size(0))
    arm = widen(pos)
    arm = arm - arm.new_tensor(_three("reference_point", reference_point))
    moments = torch.linalg.cross(arm, forces)
    moment = _sum_over_bodies(moments, area, total_area, batch, batch_size)  # [B, 3]
    roll, pitch, yaw = (
        moment / (0.5 * speed**2 * reference_area * reference_length)
    ).unbind(1)
    return MomentCoefficients(roll, pitch, yaw)


def _forces_on_cells(
    pressure: Tensor, normal: Tensor, area: Tensor, shear_stress: Tensor | None
) -> Tensor:
    """Return the force over density on each cell, [N, 3]."""
    check_given(normal=normal)
    if normal.dim() != 2 or normal.size(1) != 3:
        raise ValueError(f"normal has shape {tuple(normal.shape)}, expected [N, 3]")
    size = normal.size(0)
    stress = -widen(column("pressure", pressure, size)) * widen(normal)
    if shear_stress is not None:
        _check_vectors("shear_stress", shear_stress, size)
        stress = stress + widen(shear_stress)
    weight = column("area", area, size)
    if not bool((weight.isfinite() & (weight >= 0)).all()):
        raise ValueError("area has negative or non-finite values")
    return stress * widen(weight)


def _sum_over_bodies(
    values: Tensor,
    area: Tensor,
    total_area: Tensor | float | None,
    batch: Tensor | None,
    batch_size: int | None,
) -> Tensor:
    """Return the sums [B, 3], scaled to bodies of `total_area`."""
    total = graph_sum(values, batch, batch_size)
    if total_area is None:
        return total
    cell_area = graph_sum(area.flatten(), batch, batch_size)  # [B]
    body_area = widen(torch.as_tensor(total_area, device=cell_area.device))
    if body_area.shape not in ((), cell_area.shape):
        raise ValueError(
            f"total_area has shape {tuple(body_area.shape)}, expected "
            f"{tuple(cell_area.shape)}: one area per body"
        )
    if not bool((body_area > 0).all() and (cell_area > 0).all()):
        raise ValueError(
            "total_area and the cell area of each body must be positive, got "
            f"total_area={body_area.tolist()} and cell areas {cell_area.tolist()}"
        )
    return total * (body_area / cell_area).unsqueeze(1)


def _check_positive(**values: float) -> None:
    check_numbers(**values)
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")


def _check_vectors(name: str, values: Tensor, num_cells: int) -> None:
    if values.shape != (num_cells, 3):
        raise ValueError(
            f"{name} has shape {tuple(values.shape)}, expected ({num_cells}, 3) for "
            f"{num_cells} normals"
        )


def _three(name: str, values: Sequence[float]) -> list[float]:
    coordinates = [float(value) for value in values]
    if len(coordinates) != 3:
        raise ValueError(f"{name} is {coordinates}, expected three coordinates")
    return coordinates
