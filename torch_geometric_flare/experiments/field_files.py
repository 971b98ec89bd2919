"""Predicted fields as VTK files, pictures and HTML pages."""

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
    """Write a mesh with predicted fields, and log the guard's verdict and the ranges.

    Pictures and pages, one per field, are saved next to the mesh. They show the outer
    surface of a mesh, or the center planes of a three-dimensional grid.

    Args:
        mesh: Result of `predict_mesh` or `predict_around`.
        fields: The fields to log and to plot.
        path: The file for the mesh; an existing one is overwritten.
        title: Title of pictures and pages.
        location: Location of the fields, `"cell"` or `"point"`.
        flow: Flow direction, drawn as an arrow in pictures.
        png: Whether to save pictures.
        html: Whether to save HTML pages.

    Raises:
        ValueError: If all values of a field are NaN, or it cannot be plotted.
        OSError: If a file cannot be written.
    """
    verdict = f"guard: {mesh.field_data['guard'][0]}"
    log.info(verdict)
    for field in fields:
        values = np.asarray(mesh.get_array(field.name, preference=location))
        finite = values[np.isfinite(values)]
        if not finite.size:
            raise ValueError(f"no point lies outside of the mesh: {field} is NaN")
        text = f"{finite.min():g} to {finite.max():g}"
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
    plotted = mesh
    if isinstance(mesh, pv.ImageData) and min(mesh.dimensions) > 1:
        plotted = mesh.slice_orthogonal().combine()
    plain_title = title.replace("$", r"\$")  # no formula of Matplotlib
    for field in fields if png else ():
        picture = path.with_name(f"{path.stem}_{field.name}.png")
        figure = plot_mesh(
            plotted, field, title=plain_title, location=location, flow=flow
        )
        figure.savefig(picture, dpi=150)
        log.info(f"wrote {picture}")
    for field in fields if html else ():
        page = path.with_name(f"{path.stem}_{field.name}.html")
        heading = f"{title}: {field.name}"
        text = mesh_page(plotted, field, title=heading, location=location, note=note)
        page.write_text(text, encoding="utf-8")
        log.info(f"wrote {page}")
