"""A predicted field on its mesh as one page for a browser."""

from html import escape
from typing import Any

import numpy as np
from matplotlib import colormaps

from torch_geometric_flare._extras import needs_extra
from torch_geometric_flare.fields import Field
from torch_geometric_flare.visualization.mesh import mesh_panels, mesh_triangles

# Some 50 bytes each: a page of 25 MB is as much as a browser turns smoothly.
MOST_TRIANGLES = 500_000


def mesh_page(mesh: Any, field: Field, *, title: str, location: str = "point") -> str:
    """Return a page with the mesh to turn, and its truth and error if known.

    It shows what `plot_mesh` draws, from any side, and the value under the pointer. It
    holds all that it needs, the library Plotly too, and loads nothing: it works from a
    disk without a network.

    Args:
        mesh: A PyVista mesh, as `Surrogate.predict_mesh` returns it.
        field: Name, channels and unit. Of a vector the length is shown.
        title: Heading of the page; say here whether the data are simulated.
        location: Where the arrays lie: `"point"` or `"cell"`.

    Returns:
        HTML, to be written to a file in UTF-8.

    Raises:
        ValueError: If an array is missing or does not fit the field, or the surface has
            more than 500,000 triangles.
        MissingExtra: If Plotly is not installed.
    """
    with needs_extra("viz", __name__):
        from plotly import graph_objects as go
        from plotly.subplots import make_subplots

    panels = mesh_panels(mesh, field, location)
    surface = mesh_triangles(mesh, location)
    triangles = surface.regular_faces
    if len(triangles) > MOST_TRIANGLES:
        raise ValueError(
            f"the surface has {len(triangles):,} triangles, more than the "
            f"{MOST_TRIANGLES:,} that a page holds: decimate the mesh first, or draw "
            "it by plot_mesh"
        )
    owner = np.asarray(surface.point_data["point"])
    x, y, z = np.asarray(surface.points, np.float32).T
    i, j, k = np.asarray(triangles, np.int32).T
    figure = make_subplots(
        rows=1,
        cols=len(panels),
        specs=[[{"type": "scene"}] * len(panels)],
        subplot_titles=[panel.heading for panel in panels],
        horizontal_spacing=0.01,
    )
    for column, panel in enumerate(panels, start=1):
        low, high = panel.limits
        bar = {
            "title": {"text": panel.label, "side": "top"},
            "orientation": "h",
            "x": (column - 0.5) / len(panels),
            "y": -0.08,
            "len": 0.7 / len(panels),
        }
        values = panel.values[owner]
        known = np.isfinite(values)[triangles].all(axis=1)
        if not known.all():
            gaps = {"i": i[~known], "j": j[~known], "k": k[~known]}
            grey = go.Mesh3d(
                **{"x": x, "y": y, "z": z, **gaps}, color="lightgrey", hoverinfo="skip"
            )
            figure.add_trace(grey, row=1, col=column)
        drawn = go.Mesh3d(
            **{"x": x, "y": y, "z": z, "i": i[known], "j": j[known], "k": k[known]},
            intensity=np.nan_to_num(values),
            colorscale=_colours(panel.cmap),
            cmin=low,
            cmax=high,
            colorbar=bar,
            flatshading=location == "cell",
            hovertemplate=f"%{{intensity:.4g}}<extra>{escape(panel.label)}</extra>",
        )
        figure.add_trace(drawn, row=1, col=column)
    camera = {"eye": {"x": -1.1, "y": -1.4, "z": 0.7}}
    figure.update_scenes(aspectmode="data", camera=camera)
    figure.update_layout(title=escape(title), margin={"l": 10, "r": 10, "t": 80})
    page: str = figure.to_html(include_plotlyjs=True, full_html=True)
    return page


def _colours(name: str) -> list[list[Any]]:
    """Return a Matplotlib colour map as Plotly takes it."""
    steps = np.linspace(0.0, 1.0, 33)
    colours = (255 * colormaps[name](steps)[:, :3]).round().astype(int)
    return [
        [step, f"rgb({red},{green},{blue})"]
        for step, (red, green, blue) in zip(steps.tolist(), colours, strict=True)
    ]
