"""Force coefficients from the pressure on a surface."""

from typing import NamedTuple

from torch import Tensor

from torch_geometric_flare.metrics.graph_sum import graph_sum, widen


class ForceCoefficients(NamedTuple):
    """Dimensionless forces on each body.

    Attributes:
        drag: Along the flow, $+x$.
        lift: Upwards, $+z$.
    """

    drag: Tensor
    lift: Tensor


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
) -> ForceCoefficients:
    r"""Return drag and lift of the pressure on closed surfaces.

    Pressure pushes against the outward normal, so with cells $i$

    $$
    F = -\rho \sum_i p_i n_i A_i, \qquad
    C_d = \frac{F_x}{\frac{1}{2} \rho U^2 A_\mathrm{ref}}, \qquad
    C_l = \frac{F_z}{\frac{1}{2} \rho U^2 A_\mathrm{ref}}
    $$

    for flow along $+x$ with $z$ up. Wall shear is no part of it. Sums are taken in
    double precision, for the force is a small difference of large terms. It can be
    differentiated twice.

    Args:
        pressure: Kinematic pressure $p$ (pressure over density) in m²/s², relative to
            the free stream.
        normal: Outward unit normals.
        area: Cell areas in m².
        speed: Free-stream speed $U$ in m/s.
        reference_area: Reference area in m².
        density: Density $\rho$ in kg/m³. It makes the force one in newtons and cancels
            in the coefficients.
        batch: Body of each cell, sorted; `None` for a single body.
        batch_size: Number of bodies; by default the largest in `batch` plus one.

    Shapes:
        - `pressure`, `area`: $[N]$ or $[N, 1]$
        - `normal`: $[N, 3]$
        - `batch`: $[N]$, `torch.long`

    Returns:
        `drag` and `lift`, each $[B]$ in double precision; those of a body without cells
        are zero.

    Raises:
        ValueError: If a shape does not fit, or `speed`, `reference_area` or `density`
            is not positive.
    """
    for name, value in (
        ("speed", speed),
        ("reference_area", reference_area),
        ("density", density),
    ):
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
    if normal.dim() != 2 or normal.size(1) != 3:
        raise ValueError(f"normal has shape {tuple(normal.shape)}, expected [N, 3]")
    pressure = _column("pressure", pressure, normal.size(0))
    area = _column("area", area, normal.size(0))
    pushes = widen(pressure) * widen(normal) * widen(area)
    force = -density * graph_sum(pushes, batch, batch_size)  # [B, 3]
    coefficients = force / (0.5 * density * speed**2 * reference_area)
    return ForceCoefficients(drag=coefficients[:, 0], lift=coefficients[:, 2])


def _column(name: str, values: Tensor, num_cells: int) -> Tensor:
    """Return values [N] or [N, 1] as [N, 1]; anything else would broadcast silently."""
    if values.shape == (num_cells,):
        return values.unsqueeze(1)
    if values.shape != (num_cells, 1):
        raise ValueError(
            f"{name} has shape {tuple(values.shape)}, expected ({num_cells},) or "
            f"({num_cells}, 1) as there are {num_cells} normals"
        )
    return values
