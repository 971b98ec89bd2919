"""Force and moment coefficients of a pressure on a mesh."""

import warnings
from typing import Any

import torch

from torch_geometric_flare.metrics.forces import force_coefficients, moment_coefficients


def mesh_forces(
    mesh: Any,
    pressure: str = "pressure",
    *,
    speed: float,
    reference_area: float,
    reference_length: float = 1.0,
    density: float | None = None,
    location: str = "point",
    scale: float = 1.0,
) -> dict[str, float]:
    r"""Return the coefficients of the forces of a pressure on the surface of a body.

    Flow along $+x$, $z$ up, moments about the origin, without friction. Normals and
    areas are those of the mesh: see `mesh_io.mesh_normals`, which turns them outward
    only where the surface is closed.

    Needs PyVista: `pip install "torch-geometric-flare[viz]"`.

    Args:
        mesh: A PyVista mesh of triangles, quads and polygons.
        pressure: Name of the array.
        speed: Free-stream speed in m/s.
        reference_area: Reference area in m².
        reference_length: Reference length of moments in m.
        density: Density in kg/m³ where the pressure is in Pa; `None` where it is
            kinematic, in m²/s².
        location: Where the array lies: `"point"` or `"cell"`.
        scale: Metres in one unit of length of the mesh.

    Returns:
        `drag`, `lift`, `roll`, `pitch` and `yaw`; see `force_coefficients` and
        `moment_coefficients`.

    Raises:
        ValueError: If the mesh has cells that are no faces or lacks the array, the
            pressure is finite nowhere, or a number is not positive.

    Warns:
        UserWarning: If the pressure is not finite at some places, which count nothing.
    """
    from torch_geometric_flare import mesh_io  # Needs pyvista.

    if location not in ("cell", "point"):
        raise ValueError(f"location must be 'cell' or 'point', got {location!r}")
    if not 0 < scale < float("inf"):
        raise ValueError(f"scale must be finite and above zero, got {scale}")
    if density is not None and not density > 0:
        raise ValueError(f"density must be above zero, got {density}")
    cells = location == "cell"
    arrays = mesh.cell_data if cells else mesh.point_data
    if pressure not in arrays:
        raise ValueError(
            f"the mesh has no {location} data {pressure!r}, but {list(arrays)}"
        )
    normal = mesh_io.mesh_normals(mesh, cells=cells)
    area = mesh_io.mesh_areas(mesh, cells=cells) * scale**2
    points = (mesh.cell_centers() if cells else mesh).points
    pos = torch.tensor(points, dtype=torch.float64) * scale
    kinematic = torch.tensor(arrays[pressure]) / (1.0 if density is None else density)
    known = kinematic.isfinite()
    if not bool(known.any()):
        raise ValueError(f"{pressure!r} is finite nowhere: there is no force to sum")
    if not bool(known.all()):
        warnings.warn(
            f"{pressure!r} is not finite at {int((~known).sum())} of {len(known)} "
            "places, which are left out of the forces",
            stacklevel=2,
        )
        kinematic = kinematic.where(known, torch.zeros_like(kinematic))
    force = force_coefficients(
        kinematic, normal, area, speed=speed, reference_area=reference_area
    )
    moment = moment_coefficients(
        kinematic,
        normal,
        area,
        pos,
        speed=speed,
        reference_area=reference_area,
        reference_length=reference_length,
    )
    named = {**force._asdict(), **moment._asdict()}
    return {name: float(value) for name, value in named.items()}
