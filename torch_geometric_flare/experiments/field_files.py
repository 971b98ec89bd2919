"""Predicted fields as files: of VTK, pictures and pages."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyvista as pv

from torch_geometric_flare import mesh_io
from torch_geometric_flare.fields import Fields
from torch_geometric_flare.visualization import mesh_page, plot_mesh

log = logging.getLogger(__name__)


def write_fields(
    mesh: Any,
    fields: Fields,
    path: Path,
    *,
    title: str,
    location: str,
    flow: tuple[float, float, float] | None = None,
    png: bool = False,
    html: bool = False,
) -> None:
    """Write a mesh with predicted fields; log the verdict, their ranges, the files.

    Pictures and pages, one for each field, lie beside the mesh. They show the outer
    surface of a mesh, and of a grid in space the planes through its middle.

    Args:
        mesh: What `predict_mesh` or `predict_around` returned.
        fields: The fields to log and to draw.
        path: The file of the mesh; an existing one is replaced.
        title: Heading of pictures and pages.
        location: Where the fields lie: `"cell"` or `"point"`.
        flow: Direction of the flow, for an arrow in pictures.
        png: Whether to draw pictures.
        html: Whether to write pages.

    Raises:
        ValueError: If all of a field is NaN, or it cannot be drawn.
        OSError: If a file cannot be written.
    """
    verdict = f"guard: {mesh.field_data['guard'][0]}"
    log.info(verdict)
    for field in fields:
        values = np.asarray(mesh.get_array(field.name, preference=location))
        known = values[np.isfinite(values)]
        if not known.size:
            raise ValueError(f"no point lies outside of the mesh: {field} is NaN")
        text = f"{known.min():g} to {known.max():g}"
        gaps = int(np.isnan(values.reshape(len(values), -1)[:, 0]).sum())
        if gaps:
            text += f", NaN at {gaps:,} inside of the mesh"
        if f"{field.name}_band" in mesh.array_names:
            band = mesh.get_array(f"{field.name}_band", preference=location)
            level = float(mesh.field_data["band_level"][0])
            text += f", ± {np.mean(band):.3g} ({level:.0%})"
        log.info(f"{field} at {len(values):,} {location}s: {text}")
    log.info(f"wrote {mesh_io.save_dataset(mesh, path)}")
    if not png and not html:
        return
    note = f"{mesh.field_data['provenance'][0]}; {verdict}"
    drawn = mesh
    if isinstance(mesh, pv.ImageData) and min(mesh.dimensions) > 1:
        drawn = mesh.slice_orthogonal().combine()
    for field in fields if png else ():
        picture = path.with_name(f"{path.stem}_{field.name}.png")
        figure = plot_mesh(drawn, field, title=title, location=location, flow=flow)
        figure.savefig(picture, dpi=150)
        log.info(f"wrote {picture}")
    for field in fields if html else ():
        page = path.with_name(f"{path.stem}_{field.name}.html")
        heading = f"{title}: {field.name}"
        text = mesh_page(drawn, field, title=heading, location=location, note=note)
        page.write_text(text, encoding="utf-8")
        log.info(f"wrote {page}")
