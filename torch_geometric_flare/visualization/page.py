"""A predicted field on its mesh as one page for a browser."""

import math
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps

from torch_geometric_flare._extras import needs_extra
from torch_geometric_flare.fields import Field
from torch_geometric_flare.mesh_io import find_location
from torch_geometric_flare.visualization.mesh import mesh_panels, mesh_triangles

Coordinates = npt.NDArray[np.float64]

# Some 50 bytes each: a page of 25 MB is as much as a browser turns smoothly.
MOST_TRIANGLES = 500_000
# Extents of a mesh between it and the origin from where its coordinates are moved: the
# page holds single precision.
_FAR = 2**10
# Shades would change the colours, which are to be those of the bar.
_NO_SHADES = {"ambient": 1.0, "diffuse": 0.0, "specular": 0.0, "fresnel": 0.0}
_EYE = {"x": -1.5, "y": -1.9, "z": 0.9}
_STYLE = """\
body { font-family: sans-serif; margin: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.3rem; margin: 0; }
.panels { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); }
figure { margin: 0; min-width: 0; }
figcaption { text-align: center; }
"""
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<h1>{title}</h1>
<p>{note}</p>
<div class="panels">
{body}
</div>
{place}
<script>
// The first figures are drawn before the others take their share of the width.
window.addEventListener("load", () => window.dispatchEvent(new Event("resize")));
</script>
</body>
</html>
"""


def mesh_page(
    mesh: Any,
    field: Field,
    *,
    title: str,
    location: str | None = None,
    note: str = "",
) -> str:
    """Return a page with the mesh to turn, and its truth and error if known.

    It shows what `plot_mesh` draws, from any side, and the value under the pointer. It
    holds all that it needs, the library Plotly too, and loads nothing: it works from a
    disk without a network. The coordinates of a mesh that lies more than 1,024 times
    its size away from the origin are relative to a place named below the pictures.

    Args:
        mesh: A PyVista mesh, as `Surrogate.predict_mesh` returns it.
        field: Name, channels and unit. Of a vector the length is shown.
        title: Heading of the page, such as the name of the mesh; say here or in `note`
            whether the data are simulated.
        location: Where the arrays lie: `"point"` or `"cell"`. By default where the mesh
            was predicted on, or else where it has such an array.
        note: Sentence below the heading, such as where the numbers come from.

    Returns:
        HTML, to be written to a file in UTF-8.

    Raises:
        ValueError: If an array is missing or does not fit the field, or the surface has
            no triangles or more than 500,000.
        MissingExtra: If Plotly is not installed.
    """
    with needs_extra("viz", __name__):
        from plotly import graph_objects as go

    location = find_location(mesh, field.name, location)
    panels = mesh_panels(mesh, field, location)
    surface = mesh_triangles(mesh, location)
    triangles = surface.regular_faces
    if not len(triangles):
        raise ValueError(
            f"the mesh of {mesh.n_points} points has no faces to turn in a page: draw "
            "it by plot_mesh"
        )
    if len(triangles) > MOST_TRIANGLES:
        raise ValueError(
            f"the surface has {len(triangles):,} triangles, more than the "
            f"{MOST_TRIANGLES:,} that a page holds: decimate the mesh first, or draw "
            "it by plot_mesh"
        )
    owner = np.asarray(surface.point_data["point"])
    points, place = _near_origin(np.asarray(surface.points, np.float64))
    x, y, z = points.astype(np.float32).T
    i, j, k = np.asarray(triangles, np.int32).T
    figures: list[str] = []
    for panel in panels:
        low, high = panel.limits
        values = panel.values[owner]
        known = np.isfinite(values)[triangles].all(axis=1)
        drawn = go.Mesh3d(
            **{"x": x, "y": y, "z": z, "i": i[known], "j": j[known], "k": k[known]},
            intensity=np.nan_to_num(values),
            colorscale=_colours(panel.cmap),
            cmin=low,
            cmax=high,
            colorbar={
                "title": {"text": escape(panel.label), "side": "top"},
                "orientation": "h",
                "y": -0.02,
                "yanchor": "top",
                "len": 0.9,
                "thickness": 16,
            },
            flatshading=location == "cell",
            lighting=_NO_SHADES,
            hovertemplate=f"%{{intensity:.4g}}<extra>{escape(panel.label)}</extra>",
        )
        figure = go.Figure(drawn)
        if not known.all():
            gaps = {"i": i[~known], "j": j[~known], "k": k[~known]}
            figure.add_trace(
                go.Mesh3d(
                    **{"x": x, "y": y, "z": z, **gaps},
                    color="lightgrey",
                    lighting=_NO_SHADES,
                    hoverinfo="skip",
                )
            )
        figure.update_layout(
            scene={"aspectmode": "data", "camera": {"eye": _EYE}},
            margin={"l": 0, "r": 0, "t": 0, "b": 80},
        )
        # The library stands in the first figure, and serves all.
        body = figure.to_html(
            full_html=False,
            include_plotlyjs=not figures,
            config={"responsive": True, "displaylogo": False},
            default_width="100%",
            default_height="420px",
        )
        heading = escape(panel.heading)
        figures.append(f"<figure><figcaption>{heading}</figcaption>{body}</figure>")
    return _PAGE.format(
        title=escape(title),
        style=_STYLE,
        note=escape(note),
        body="\n".join(figures),
        place=place and f"<p>{place}</p>",
    )


def _near_origin(points: Coordinates) -> tuple[Coordinates, str]:
    """Return coordinates that single precision holds, and a sentence if they moved."""
    lower, upper = points.min(axis=0), points.max(axis=0)
    extent = (upper - lower).max()
    if not 0 < _FAR * extent < np.abs(points).max():
        return points, ""
    digits = -math.floor(math.log10(extent))
    place = np.round((lower + upper) / 2, digits)
    named = ", ".join(f"{value:.16g}" for value in place)
    return points - place, f"Coordinates are relative to ({named})."


def _colours(name: str) -> list[list[Any]]:
    """Return a Matplotlib colour map as Plotly takes it."""
    steps = np.linspace(0.0, 1.0, 33)
    colours = (255 * colormaps[name](steps)[:, :3]).round().astype(int)
    return [
        [step, f"rgb({red},{green},{blue})"]
        for step, (red, green, blue) in zip(steps.tolist(), colours, strict=True)
    ]
