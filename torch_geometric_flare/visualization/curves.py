"""Plots of training curves."""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

Series = Sequence[float] | Tensor


def plot_training_curves(
    metrics: Mapping[str, tuple[Series, Series]],
    *,
    title: str | None = None,
    xlabel: str = "step",
    ylabel: str = "relative L2 error",
) -> Figure:
    r"""Plot metrics over training on a logarithmic axis.

    Values that are not positive or not finite leave a gap in their curve.

    Args:
        metrics: For each name, the steps (or epochs) and the values. Metrics may have
            different steps.
        title: Title of the figure; state here whether the data are simulated.
        xlabel: Label of the steps.
        ylabel: Label of the values, with their unit if they have one.

    Shapes:
        - **steps, values:** $(T)$ each, where $T$ may differ between metrics

    Returns:
        The figure; save it with `figure.savefig`. No global Matplotlib state is used.

    Raises:
        ValueError: If `metrics` is empty or steps and values differ in length.
    """
    if not metrics:
        raise ValueError("metrics is empty: there is no curve to plot")
    figure = Figure(figsize=(8, 5), layout="constrained")
    axis = figure.subplots()
    for name, (steps, values) in metrics.items():
        x = torch.as_tensor(steps, dtype=torch.float64).detach().cpu()
        y = torch.as_tensor(values, dtype=torch.float64).detach().cpu()
        if x.ndim != 1 or x.shape != y.shape:
            raise ValueError(
                f"metrics[{name!r}] needs as many steps as values, in one dimension; "
                f"got shapes {list(x.shape)} and {list(y.shape)}"
            )
        drawable = (y > 0) & y.isfinite()
        axis.plot(
            x.numpy(),
            y.where(drawable, torch.nan).numpy(),
            # A curve may have a single point, which a line would not show.
            marker="o" if len(x) <= 50 else None,
            markersize=4,
            linewidth=1.6,
            label=name,
        )
    axis.set_yscale("log")
    axis.set_xlabel(xlabel, fontsize=13)
    axis.set_ylabel(ylabel, fontsize=13)
    axis.tick_params(labelsize=11)
    axis.grid(which="major", alpha=0.4)
    axis.grid(which="minor", alpha=0.15)
    axis.legend(fontsize=12)
    if title is not None:
        axis.set_title(title, fontsize=14)
    return figure
