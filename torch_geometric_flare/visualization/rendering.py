"""Points of a surface as pictures: glyphs, an off-screen renderer and a cutter."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyvista as pv
import torch

from torch_geometric_flare.visualization.panels import Array

Picture = npt.NDArray[np.uint8]
View = tuple[float, float, float]
Bounds = tuple[float, float, float, float, float, float]

# Glyphs reach over their neighbours by this factor in radius, or an unevenly sampled
# surface would show its far side through the gaps.
_OVERLAP = 2.5
# Drop of a glyph's rim below its middle, per radius: where glyphs overlap, the nearest
# point wins, and little sticks out over an edge.
_DROP = 0.5
_WINDOW = (1200, 900)  # pixels of one rendered panel, before its margin is cut


def random_subset(num_points: int, max_points: int) -> npt.NDArray[np.int64]:
    """Return the indices of at most `max_points` points, the same every time."""
    if num_points <= max_points:
        return np.arange(num_points)
    return np.random.default_rng(0).permutation(num_points)[:max_points]


def cone_glyphs(points: Array, normals: Array, area: Array) -> Any:
    """Stand a flat cone on each point, along its normal, as wide as its area."""
    cloud = pv.PolyData(points)
    cloud.point_data["normal"] = normals
    cloud.point_data["radius"] = _OVERLAP * np.sqrt(area / np.pi)
    cone = pv.Cone(
        center=(-_DROP / 2, 0, 0), height=_DROP, radius=1.0, resolution=8, capping=False
    )
    # Lit like the surface that it stands for, not like a cone.
    cone.point_data.active_normals = np.tile((1.0, 0.0, 0.0), (cone.n_points, 1))
    return _glyphs(cloud, cone, orient="normal", scale="radius")


def sphere_glyphs(points: Array) -> Any:
    """Put a ball on each point, sized by the distance between neighbours."""
    ball = pv.Icosahedron(radius=_OVERLAP * _neighbour_distance(points))
    ball.point_data.active_normals = ball.points / np.linalg.norm(ball.points[0])
    return _glyphs(pv.PolyData(points), ball, orient=False, scale=False)


def _glyphs(cloud: Any, shape: Any, *, orient: str | bool, scale: str | bool) -> Any:
    cloud.point_data["point"] = np.arange(cloud.n_points)
    return cloud.glyph(orient=orient, scale=scale, geom=shape)


def _neighbour_distance(points: Array) -> float:
    """Median distance to the nearest other point, over 512 of the points."""
    cloud = torch.from_numpy(points)
    probes = cloud[torch.from_numpy(random_subset(len(points), 512))]
    nearest = []
    for chunk in probes.chunk(8):
        distance = torch.cdist(
            chunk, cloud, compute_mode="donot_use_mm_for_euclid_dist"
        )  # [64, N]
        # A point is not a neighbour of itself, nor of a copy of itself.
        nearest.append(distance.masked_fill(distance == 0, torch.inf).amin(dim=1))
    median = torch.cat(nearest).median()
    return float(median) if median.isfinite() else 1.0


def render(
    shape: Any,
    values: Array,
    clim: tuple[float, float],
    cmap: str,
    view: View,
    bounds: Bounds | None = None,
    flow: View | None = None,
) -> Picture:
    """Draw a shape in the colours of its points' values, seen from `view`.

    Args:
        shape: What to draw; its array `point` says whose value each vertex has.
        values: One number for each point.
        clim: Ends of the colours.
        cmap: Colours, as Matplotlib names them.
        view: Direction to the camera.
        bounds: Box to look at, as pyvista orders it; that of the shape by default.
        flow: Direction of the flow, for an arrow above the shape.
    """
    mesh = shape.copy(deep=False)
    mesh.point_data["value"] = values[mesh.point_data["point"]]
    direction = np.asarray(view, dtype=float)
    direction = direction / np.linalg.norm(direction)
    from_above = abs(direction[2]) > 0.999
    low, high = np.reshape(bounds or mesh.bounds, (3, 2)).T
    centre, length = (low + high) / 2, float(np.linalg.norm(high - low))
    # VTK tells stderr about a missing display before it turns to a renderer without.
    with pv.vtk_verbosity("error"):
        plotter = pv.Plotter(off_screen=True, window_size=_WINDOW, lighting="none")
        try:
            plotter.set_background("white")
            plotter.add_light(pv.Light(light_type="headlight"))
            plotter.add_mesh(
                mesh,
                scalars="value",
                cmap=cmap,
                clim=clim,
                nan_color="lightgrey",
                show_scalar_bar=False,
                interpolation="Gouraud",
                ambient=0.65,
                diffuse=0.4,
                specular=0.0,
            )
            if flow is not None:
                _add_arrow(plotter, low, high, flow)
            plotter.camera_position = [
                tuple(centre + length * direction),
                tuple(centre),
                (1.0, 0.0, 0.0) if from_above else (0.0, 0.0, 1.0),
            ]
            plotter.camera.view_angle = 20.0
            plotter.reset_camera(bounds=bounds)
            plotter.enable_anti_aliasing("ssaa")
            image: Picture = plotter.screenshot(filename=None, return_img=True)
        finally:
            plotter.close()
    return image


def _add_arrow(plotter: Any, low: Any, high: Any, flow: View) -> None:
    """Draw an arrow along the flow above the box from `low` to `high`."""
    direction = np.asarray(flow, dtype=float)
    direction = direction / np.linalg.norm(direction)
    # Above, or beside where the flow is vertical.
    side = np.array((0.0, 1.0, 0.0) if abs(direction[2]) > 0.999 else (0.0, 0.0, 1.0))
    side = side - direction * (side @ direction)
    size = float(np.linalg.norm(high - low))
    above = abs(side) @ (high - low) / 2 + 0.07 * size
    middle = (low + high) / 2 + above * side
    start = middle - 0.3 * size * direction
    arrow = pv.Arrow(
        start=start,
        direction=direction,
        scale=0.25 * size,
        tip_length=0.3,
        tip_radius=0.07,
        shaft_radius=0.025,
    )
    plotter.add_mesh(arrow, color="dimgrey", lighting=False)
    plotter.add_point_labels(
        [start + (0.27 * direction + 0.012 * side) * size],
        ["flow"],
        font_size=28,
        text_color="dimgrey",
        shape=None,
        show_points=False,
        always_visible=True,
        bold=False,
    )


def cut_margin(images: list[Picture]) -> list[Picture]:
    """Cut the same white margin off pictures of one shape from one view."""
    drawn = np.any([(image < 250).any(axis=2) for image in images], axis=0)
    if not drawn.any():
        return images
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    top, left = max(rows[0] - 10, 0), max(columns[0] - 10, 0)
    return [image[top : rows[-1] + 11, left : columns[-1] + 11] for image in images]
