"""Arrangement of rendered panels in one figure."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from torch_geometric_flare.visualization.panels import Panel, color_bar
from torch_geometric_flare.visualization.rendering import Picture

_WIDTH = 15.0  # inches


def arrange_pictures(
    pictures: list[list[Picture]], panels: Sequence[Panel], title: str
) -> Figure:
    """Return a figure with one row of pictures per view.

    Args:
        pictures: The pictures of one shape for each view: truth, prediction and error,
            or only a prediction, and optionally a band.
        panels: The panels of the pictures.
        title: Title of the figure.
    """
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
