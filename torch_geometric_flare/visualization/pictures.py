"""Figures of rendered panels."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from torch_geometric_flare.visualization.panels import Panel, color_bar
from torch_geometric_flare.visualization.rendering import (
    Bounds,
    Picture,
    View,
    cut_margin,
    render,
)

_WIDTH = 15.0  # inches


def plot_shapes(
    shapes: Sequence[Any],
    panels: Sequence[Panel],
    title: str,
    views: Sequence[View],
    *,
    bounds: Bounds | None = None,
    flow: View | None = None,
) -> Figure:
    """Return a figure with one row of pictures per view.

    Args:
        shapes: The shape of each panel, see `render`.
        panels: Truth, prediction and error, or only a prediction, and optionally a
            band.
        title: Title of the figure.
        views: Direction to the camera for each row.
        bounds: Box to show, in PyVista's order. Default: that of each shape.
        flow: Direction of the flow, drawn as an arrow. Default: no arrow.
    """
    pairs = list(zip(shapes, panels, strict=True))
    rows = [
        cut_margin([render(*pair, view, bounds, flow) for pair in pairs])
        for view in views
    ]
    return _arrange(rows, panels, title)


def _arrange(
    pictures: list[list[Picture]], panels: Sequence[Panel], title: str
) -> Figure:
    heights = [row[0].shape[0] / row[0].shape[1] for row in pictures]
    # A single picture may be larger.
    width = _WIDTH / 3 if len(panels) > 1 else _WIDTH / 2
    figure = Figure(
        figsize=(width * len(panels), width * sum(heights) + 1.7),
        layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1),
    )
    figure.suptitle(title, fontsize=17)
    axes = figure.subplots(
        len(pictures),
        len(panels),
        squeeze=False,
        gridspec_kw={"height_ratios": heights},
    )
    for row, images in zip(axes, pictures, strict=True):
        for axis, image in zip(row, images, strict=True):
            axis.imshow(image)
            axis.set_axis_off()
    for axis, panel in zip(axes[0], panels, strict=True):
        axis.set_title(panel.heading, fontsize=15)
    bar = {"location": "bottom", "aspect": 30}
    # Truth and prediction share a color bar.
    shared = sum(panel.label == panels[0].label for panel in panels)
    color_bar(figure, list(axes[:, :shared].flat), panels[0], shrink=0.5, **bar)
    for column in range(shared, len(panels)):
        color_bar(figure, list(axes[:, column]), panels[column], shrink=0.9, **bar)
    return figure
