"""An interactive HTML page of a predicted field on its mesh."""

import math
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps

from torch_geometric_flare._extras import needs_extra
from torch_geometric_flare.fields import Field
from torch_geometric_flare.mesh_io import find_location
from torch_geometric_flare.visualization.document import html_document
from torch_geometric_flare.visualization.mesh import mesh_panels, mesh_triangles

Coordinates = npt.NDArray[np.float64]

# About 50 bytes each: browsers rotate pages of up to 25 MB smoothly.
MOST_TRIANGLES = 500_000
# Distance from the origin, in extents of the mesh, beyond which coordinates are
# shifted, because the page stores single precision.
_FAR = 2**10
# Shading would change the colors, which must match the color bar.
_NO_SHADING = {"ambient": 1.0, "diffuse": 0.0, "specular": 0.0, "fresnel": 0.0}
_EYE = {"x": -1.5, "y": -1.9, "z": 0.9}
_STYLE = """\
body { font-family: sans-serif; margin: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.3rem; margin: 0; }
.panels { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); }
figure { margin: 0; min-width: 0; }
figcaption { text-align: center; }
"""
_BODY = """\
<p>{note}</p>
<div class="panels">
{figures}
</div>
{place}
<script>
// The first figures are drawn before the others take their share of the width.
window.addEventListener("load", () => window.dispatchEvent(new Event("resize")));
</script>"""


def mesh_page(
    mesh: Any,
    field: Field,
    *,
    title: str,
    location: str | None = None,
    note: str = "",
) -> str:
    """Return an HTML page with the rotatable mesh, and its truth and error if known.

    It shows the panels of `plot_mesh` from any direction, and the value under the
    pointer. It is self-contained, including the library Plotly, so it works offline
    from a local file. If a mesh is farther from the origin than 1,024 times its size,
    its coordinates are relative to an offset that is shown below the panels.

    Args:
        mesh: A PyVista mesh from `Surrogate.predict_mesh`.
        field: Name, channels and unit. For vectors, the magnitude is shown.
        title: Title of the page, such as the name of the mesh; state here or in `note`
            whether the data are simulated.
        location: Location of the arrays, `"point"` or `"cell"`. Default: where the mesh
            was predicted on, or else where it has such an array.
        note: Sentence below the title, such as the source of the numbers.

    Returns:
        The HTML text; write it to a file in UTF-8.

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
            f"the mesh of {mesh.n_points} points has no faces for a page: use "
            "plot_mesh instead"
        )
    if len(triangles) > MOST_TRIANGLES:
        raise ValueError(
            f"the surface has {len(triangles):,} triangles, more than the "
            f"{MOST_TRIANGLES:,} that a page supports: decimate the mesh first, or use "
            "plot_mesh"
        )
    owner = np.asarray(surface.point_data["point"])
    points, offset_note = _near_origin(np.asarray(surface.points, np.float64))
    x, y, z = points.astype(np.float32).T
    i, j, k = np.asarray(triangles, np.int32).T
    figures: list[str] = []
    for panel in panels:
        low, high = panel.limits
        label = escape(panel.label, quote=False)  # Plotly shows &quot; as it is
        values = panel.values[owner]
        finite = np.isfinite(values)[triangles].all(axis=1)
        surface_plot = go.Mesh3d(
            **{"x": x, "y": y, "z": z, "i": i[finite], "j": j[finite], "k": k[finite]},
            intensity=np.nan_to_num(values),
            colorscale=_colors(panel.cmap),
            cmin=low,
            cmax=high,
            colorbar={
                "title": {"text": label, "side": "top"},
                "orientation": "h",
                "y": -0.02,
                "yanchor": "top",
                "len": 0.9,
                "thickness": 16,
            },
            flatshading=location == "cell",
            lighting=_NO_SHADING,
            hovertemplate=f"%{{intensity:.4g}}<extra>{label}</extra>",
        )
        figure = go.Figure(surface_plot)
        if not finite.all():
            gaps = {"i": i[~finite], "j": j[~finite], "k": k[~finite]}
            figure.add_trace(
                go.Mesh3d(
                    **{"x": x, "y": y, "z": z, **gaps},
                    color="lightgrey",
                    lighting=_NO_SHADING,
                    hoverinfo="skip",
                )
            )
        figure.update_layout(
            scene={"aspectmode": "data", "camera": {"eye": _EYE}},
            margin={"l": 0, "r": 0, "t": 0, "b": 80},
        )
        # The library is embedded in the first figure and used by all.
        drawing = figure.to_html(
            full_html=False,
            include_plotlyjs=not figures,
            config={"responsive": True, "displaylogo": False},
            default_width="100%",
            default_height="420px",
        )
        heading = escape(panel.heading)
        figures.append(f"<figure><figcaption>{heading}</figcaption>{drawing}</figure>")
    body = _BODY.format(
        note=escape(note),
        figures="\n".join(figures),
        place=offset_note and f"<p>{offset_note}</p>",
    )
    return html_document(title, _STYLE, body)


def _near_origin(points: Coordinates) -> tuple[Coordinates, str]:
    """Return coordinates for single precision, and a note if they were shifted."""
    lower, upper = points.min(axis=0), points.max(axis=0)
    extent = (upper - lower).max()
    if not 0 < _FAR * extent < np.abs(points).max():
        return points, ""
    digits = -math.floor(math.log10(extent))
    offset = np.round((lower + upper) / 2, digits)
    numbers = ", ".join(f"{value:.16g}" for value in offset)
    return points - offset, f"Coordinates are relative to ({numbers})."


def _colors(name: str) -> list[list[Any]]:
    """Convert a Matplotlib colormap to Plotly's format."""
    steps = np.linspace(0.0, 1.0, 33)
    colors = (255 * colormaps[name](steps)[:, :3]).round().astype(int)
    return [
        [step, f"rgb({red},{green},{blue})"]
        for step, (red, green, blue) in zip(steps.tolist(), colors, strict=True)
    ]
