"""Plots of eigenvalue spectra."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

_COLUMNS = 4
_LEAST = 1e-16  # smaller values, or negative ones due to rounding, are drawn here


def plot_spectra(
    values: Sequence[Tensor],
    untrained: Sequence[Tensor] | None = None,
    *,
    title: str | None = None,
) -> Figure:
    r"""Plot the eigenvalues of each block of a network on a logarithmic axis.

    Each block has a panel with one line per head. A vertical line marks the number of
    latents $M$, a horizontal line the machine epsilon of single precision.

    Args:
        values: Eigenvalues of each block for one graph, in descending order.
        untrained: Eigenvalues of the same network before training, drawn in gray.
        title: Title of the figure; state here whether the data are simulated.

    Shapes:
        - `values`, `untrained`: $[H, M]$ each

    Returns:
        The figure; save it with `figure.savefig`. No global Matplotlib state is used.

    Raises:
        ValueError: If there are no blocks, a shape is wrong, or `untrained` has another
            number of blocks.
    """
    before = [None] * len(values) if untrained is None else list(untrained)
    if not values or len(before) != len(values):
        raise ValueError(
            f"values has {len(values)} blocks and untrained {len(before)}: pass the "
            "eigenvalues of the blocks of one network"
        )
    columns = min(_COLUMNS, len(values))
    rows = -(-len(values) // columns)
    figure = Figure(figsize=(1 + 3.2 * columns, 0.8 + 3 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axis in panels.flat[len(values) :]:
        axis.set_visible(False)
    for number, axis in enumerate(panels.flat[: len(values)], start=1):
        after, first = values[number - 1], before[number - 1]
        if after.dim() != 2:
            raise ValueError(
                f"values[{number - 1}] has shape {tuple(after.shape)}, expected [H, M]"
            )
        latents = after.size(1)
        indices = range(1, latents + 1)
        for head in first if first is not None else ():
            axis.semilogy(indices, _drawable(head), color="0.8", linewidth=1)
        for index, head in enumerate(after):
            axis.semilogy(
                indices, _drawable(head), linewidth=1.2, label=f"head {index + 1}"
            )
        axis.axvline(latents, color="0.5", linestyle="--", linewidth=1)
        axis.axhline(
            torch.finfo(torch.float32).eps, color="0.5", linestyle=":", linewidth=1
        )
        axis.set_xlabel("index of the eigenvalue")
        axis.set_title(f"block {number}, M = {latents}")
    for axis in panels[:, 0]:
        axis.set_ylabel("eigenvalue")
    heads = panels.flat[0].get_legend_handles_labels()
    figure.legend(*heads, loc="outside right center", fontsize=8)
    if title is not None:
        figure.suptitle(title)
    return figure


def _drawable(values: Tensor) -> Tensor:
    return values.detach().cpu().double().clamp_min(_LEAST)
