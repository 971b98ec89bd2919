"""Location of mesh arrays: cells or points."""

from typing import Any

LOCATIONS = ("cell", "point")


def find_location(mesh: Any, name: str, location: str | None = None) -> str:
    """Return where an array of a mesh lies: `"cell"` or `"point"`.

    Args:
        mesh: A PyVista mesh.
        name: Name of the array.
        location: The location. `None` for the location that a prediction has noted in
            the mesh, otherwise where such an array exists, at the points if at both.

    Raises:
        ValueError: If `location` is neither.
    """
    check_location(location)
    if location is not None:
        return location
    note = f"{name}_location"
    if note in mesh.field_data and str(mesh.field_data[note][0]) in LOCATIONS:
        return str(mesh.field_data[note][0])
    only_at_cells = name in mesh.cell_data and name not in mesh.point_data
    return "cell" if only_at_cells else "point"


def check_location(location: str | None) -> None:
    """Raise `ValueError` unless `location` is valid or `None`."""
    if location is not None and location not in LOCATIONS:
        raise ValueError(f"location must be 'cell' or 'point', got {location!r}")
