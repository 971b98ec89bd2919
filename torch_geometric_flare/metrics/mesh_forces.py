"""Force and moment coefficients of the pressure on a mesh."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from torch_geometric_flare._finite import count_gaps
from torch_geometric_flare.metrics.forces import force_coefficients, moment_coefficients


def mesh_forces(
    mesh: Any,
    pressure: str = "pressure",
    *,
    speed: float,
    reference_area: float,
    reference_length: float = 1.0,
    density: float | None = None,
    location: str | None = None,
    scale: float = 1.0,
    reference_point: Sequence[float] = (0.0, 0.0, 0.0),
) -> dict[str, float]:
    r"""Return the force and moment coefficients of the pressure on a body surface.

    The flow is along $+x$, $z$ is up, and friction is neglected. Each face is split
    into triangles around the mean of its corners. The force on a triangle is its area
    vector times its pressure: the pressure of the face, or the mean of the triangle's
    corners. A vertex thus gets the sum of its shares of the area vectors of its faces.
    Uniform pressure on a closed surface with any faces gives no force and no moment, up
    to rounding, and the force of a pressure that is linear in space is exact.

    Faces are oriented by `mesh_io.oriented_faces`: along the normals in the mesh, or
    else outward if the surface is closed.

    Needs PyVista: `pip install ".[viz]"`.

    Args:
        mesh: A PyVista mesh of triangles, quads and polygons. Hidden and ghost cells
            are ignored, see `mesh_io.visible_part`.
        pressure: Name of the array.
        speed: Free-stream speed in m/s.
        reference_area: Reference area in m².
        reference_length: Reference length of moments in m.
        density: Density in kg/m³ if the pressure is in Pa; `None` if it is kinematic,
            in m²/s².
        location: Location of the array, `"point"` or `"cell"`. Default: where the mesh
            was predicted on, or else where it has such an array.
        scale: Length unit of the mesh in meters.
        reference_point: Reference point of the moments in m.

    Returns:
        `drag`, `lift`, `roll`, `pitch` and `yaw`; see `force_coefficients` and
        `moment_coefficients`.

    Raises:
        ValueError: If the mesh has cells that are not faces or lacks the array, the
            pressure is finite nowhere, or a number is not positive.

    Warns:
        UserWarning: If the pressure is not finite at some locations, which are ignored.
    """
    from torch_geometric_flare import mesh_io  # Needs pyvista.

    location = mesh_io.find_location(mesh, pressure, location)
    if not 0 < scale < float("inf"):
        raise ValueError(f"scale must be finite and above zero, got {scale}")
    if density is not None and not density > 0:
        raise ValueError(f"density must be above zero, got {density}")
    mesh = mesh_io.visible_part(mesh)
    cells = location == "cell"
    arrays = mesh.cell_data if cells else mesh.point_data
    if pressure not in arrays:
        raise ValueError(
            f"the mesh has no {location} data {pressure!r}, only {list(arrays)}"
        )
    values = np.asarray(arrays[pressure])
    if values.ndim != 1 or values.dtype.kind not in "fiu":
        raise ValueError(
            f"the {location} data {pressure!r} are {values.dtype} of shape "
            f"{values.shape}, expected one number per {location}"
        )
    kinematic = values.astype(np.float64) / (1.0 if density is None else density)
    finite = np.isfinite(kinematic)
    if not finite.any():
        raise ValueError(f"{pressure!r} is finite nowhere: there is no force to sum")
    if not finite.all():
        warnings.warn(
            f"{pressure!r} has {count_gaps(finite)}, which are ignored",
            stacklevel=2,
        )
        kinematic = np.where(finite, kinematic, 0.0)
    total = dict.fromkeys(("drag", "lift", "roll", "pitch", "yaw"), 0.0)
    for fans in mesh_io.polygon_fans(mesh_io.oriented_faces(mesh)):
        if cells:
            on_triangles = np.repeat(kinematic[fans.faces], fans.sizes)
        else:
            corner = kinematic[fans.corner]
            mean = np.add.reduceat(corner, fans.first) / fans.sizes
            mean = np.repeat(mean, fans.sizes)
            on_triangles = (mean + corner + corner[fans.following]) / 3
        center = np.repeat(fans.mean, fans.sizes, axis=0)
        center += (fans.arm + fans.arm[fans.following]) / 3
        # The area vector is the normal times the area, so the areas are one.
        pressures = torch.from_numpy(on_triangles)
        surface = (
            pressures,
            torch.from_numpy(fans.vector * scale**2),
            torch.ones_like(pressures),
        )
        moments = moment_coefficients(
            *surface,
            torch.from_numpy(center * scale),
            speed=speed,
            reference_area=reference_area,
            reference_length=reference_length,
            reference_point=reference_point,
        )
        forces = force_coefficients(
            *surface, speed=speed, reference_area=reference_area
        )
        for name, value in {**forces._asdict(), **moments._asdict()}.items():
            total[name] += float(value)
    return total
