"""Pictures of surface points: glyphs, off-screen rendering and cropping."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyvista as pv
import torch

from torch_geometric_flare.visualization.panels import Array, Panel

Picture = npt.NDArray[np.uint8]
View = tuple[float, float, float]
Bounds = tuple[float, float, float, float, float, float]

# Glyphs overlap by this factor in radius; otherwise, the far side would be visible
# through gaps of an unevenly sampled surface.
_OVERLAP = 2.5
# Height of a cone divided by its radius: where glyphs overlap, the nearest point is
# visible, and glyphs barely extend beyond edges.
_DROP = 0.5
_WINDOW = (1200, 900)  # pixels of one rendered panel before cropping


def random_subset(num_points: int, max_points: int) -> npt.NDArray[np.int64]:
    """Return the indices of at most `max_points` random points, always the same."""
    if num_points <= max_points:
        return np.arange(num_points)
    return np.random.default_rng(0).permutation(num_points)[:max_points]


def cone_glyphs(points: Array, normals: Array, area: Array) -> Any:
    """Place a flat cone with its area on each point, along its normal."""
    cloud = pv.PolyData(points)
    cloud.point_data["normal"] = normals
    cloud.point_data["radius"] = _OVERLAP * np.sqrt(area / np.pi)
    cone = pv.Cone(
        center=(-_DROP / 2, 0, 0), height=_DROP, radius=1.0, resolution=8, capping=False
    )
    # Use the normals of the surface for lighting, not those of the cone.
    cone.point_data.active_normals = np.tile((1.0, 0.0, 0.0), (cone.n_points, 1))
    return _glyphs(cloud, cone, orient="normal", scale="radius")


def sphere_glyphs(points: Array) -> Any:
    """Place a sphere on each point, sized by the distance between neighbors."""
    ball = pv.Icosahedron(radius=_OVERLAP * _neighbor_distance(points))
    ball.point_data.active_normals = ball.points / np.linalg.norm(ball.points[0])
    return _glyphs(pv.PolyData(points), ball, orient=False, scale=False)


def _glyphs(cloud: Any, shape: Any, *, orient: str | bool, scale: str | bool) -> Any:
    cloud.point_data["point"] = np.arange(cloud.n_points)
    return cloud.glyph(orient=orient, scale=scale, geom=shape)


def _neighbor_distance(points: Array) -> float:
    """Return the median distance to the nearest other point, for 512 of the points."""
    cloud = torch.from_numpy(points)
    probes = cloud[torch.from_numpy(random_subset(len(points), 512))]
    nearest = []
    for chunk in probes.chunk(8):
        distance = torch.cdist(
            chunk, cloud, compute_mode="donot_use_mm_for_euclid_dist"
        )  # [64, N]
        # A point is not a neighbor of itself or of duplicates.
        nearest.append(distance.masked_fill(distance == 0, torch.inf).amin(dim=1))
    median = torch.cat(nearest).median()
    return float(median) if median.isfinite() else 1.0


def render(
    shape: Any,
    panel: Panel,
    view: View,
    bounds: Bounds | None = None,
    flow: View | None = None,
) -> Picture:
    """Render a shape, colored by the values of a panel, from a view direction.

    Args:
        shape: The shape; its array `point` is the index of each vertex's value.
        panel: Values and colors.
        view: Direction to the camera.
        bounds: Box to show, in PyVista's order. Default: that of the shape.
        flow: Direction of the flow, for an arrow above the shape.
    """
    mesh = shape.copy(deep=False)
    mesh.point_data["value"] = panel.values[mesh.point_data["point"]]
    direction = np.asarray(view, dtype=float)
    direction = direction / np.linalg.norm(direction)
    from_above = abs(direction[2]) > 0.999
    low, high = np.reshape(bounds or mesh.bounds, (3, 2)).T
    center, length = (low + high) / 2, float(np.linalg.norm(high - low))
    # VTK reports a missing display on stderr before it falls back to offscreen
    # rendering.
    with pv.vtk_verbosity("error"):
        plotter = pv.Plotter(off_screen=True, window_size=_WINDOW, lighting="none")
        try:
            plotter.set_background("white")
            plotter.add_light(pv.Light(light_type="headlight"))
            plotter.add_mesh(
                mesh,
                scalars="value",
                cmap=panel.cmap,
                clim=panel.limits,
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
                tuple(center + length * direction),
                tuple(center),
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
    # Above, or to the side if the flow is vertical.
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
    """Crop the common white margin of pictures of one shape from one view."""
    drawn = np.any([(image < 250).any(axis=2) for image in images], axis=0)
    if not drawn.any():
        return images
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    top, left = max(rows[0] - 10, 0), max(columns[0] - 10, 0)
    return [image[top : rows[-1] + 11, left : columns[-1] + 11] for image in images]
