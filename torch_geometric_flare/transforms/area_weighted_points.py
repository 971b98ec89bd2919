"""Random points of a surface, drawn by area, with the total area preserved."""

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import BaseTransform

from torch_geometric_flare._arguments import check_integers

# Attributes that refer to points by index, other than edges.
_UNKEPT = ("cells", "face", "grid")


class AreaWeightedPoints(BaseTransform):
    r"""Draw points with probability proportional to their `area`, and rescale `area`.

    `FixedPoints` of PyTorch Geometric does not change areas, so drag, lift or any other
    integral over a subset is too small. Here, the areas of the $n$ drawn points
    represent the whole surface of area $A = \sum_i a_i$: for any field $f$, the
    expectation of $\sum_\mathrm{drawn} a' f$ is $\sum_i a_i f_i$, and
    $\sum_\mathrm{drawn} a'$ is exactly $A$.

    - With replacement, points are drawn independently with probability $a_i / A$, and
      each gets $a' = A / n$ (Hansen and Hurwitz,
      [1943](https://doi.org/10.1214/aoms/1177731356)).
    - Without replacement, a point is in the subset with probability $\pi_i = \min(1,
      a_i / c)$, where $c$ makes these sum to $n$, and gets $a' = a_i / \pi_i$ (Horvitz
      and Thompson, [1952](https://doi.org/10.1080/01621459.1952.10483446)): all points
      with an area above $c$ are taken and keep their area, and the others get $c$. They
      are taken at equal steps of the cumulative area, in random order, from a random
      start (systematic sampling), which gives exactly $\pi_i$; drawing them one by one
      would not.

    A `weight` of the points is rescaled like their areas. All other values per point
    are kept, and so are the edges between drawn points with their values. Drawn points
    keep their order. Points without area are never drawn. Random numbers come from
    PyTorch's global generator, as in `FixedPoints`.

    Args:
        num_points: Number of points $n$ to draw. Without replacement, a sample with
            fewer points of positive area keeps all of these.
        replace: Whether to draw with replacement, so that points may occur twice.

    Raises:
        ValueError: If `num_points` is below one. When applied: if the sample is a
            batch; lacks `area`, or its areas have another shape, are negative, not
            finite or all zero; or has `cells`, `face` or `grid`, which a subset of the
            points does not have, or, with replacement, `edge_index`.
    """

    def __init__(self, num_points: int, replace: bool = False) -> None:
        check_integers(1, num_points=num_points)
        self.num_points = num_points
        self.replace = replace

    def forward(self, data: Data) -> Data:
        """Return the drawn points with rescaled areas."""
        area = _checked_area(data)
        self._check_connectivity(data)
        weights = area.detach().flatten().double()
        if self.replace:
            chosen, drawn_area = _draw_with_replacement(weights, self.num_points)
        else:
            chosen, drawn_area = _draw_systematically(weights, self.num_points)
        chosen, order = chosen.sort()
        subset = data.subgraph(chosen)
        subset.area = _like(area, drawn_area[order].view(-1, *area.shape[1:]))
        if "weight" in data:
            # Divide by the probability of being drawn, as for areas.
            factor = (drawn_area[order] / weights[chosen]).view(
                -1, *[1] * (data.weight.dim() - 1)
            )
            subset.weight = _like(data.weight, data.weight[chosen] * factor)
        return subset

    def _check_connectivity(self, data: Data) -> None:
        refused = [*_UNKEPT, "edge_index"] if self.replace else _UNKEPT
        for name in refused:
            if name in data:
                raise ValueError(
                    f"the sample has {name}, which a subset of its points drawn "
                    f"{'with' if self.replace else 'without'} replacement does not "
                    f"have: delete data.{name} first"
                )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.num_points}, replace={self.replace})"


def _checked_area(data: Data) -> Tensor:
    if isinstance(data, Batch):
        raise ValueError("data is a batch: apply this before batching")
    area = data.get("area")
    if not isinstance(area, Tensor):
        raise ValueError(
            "the sample has no `area`, which determines how often to draw a point: add "
            "data.area of shape [N], or use FixedPoints of torch_geometric.transforms"
        )
    if area.shape not in ((data.num_nodes,), (data.num_nodes, 1)):
        raise ValueError(
            f"area has shape {tuple(area.shape)}, expected ({data.num_nodes},) or "
            f"({data.num_nodes}, 1)"
        )
    if not bool((area.isfinite() & (area >= 0)).all() and (area > 0).any()):
        raise ValueError(
            "area must be finite, nonnegative and not all zero, got values "
            f"from {area.min().item()} to {area.max().item()}"
            if area.numel()
            else "the sample has no points to draw"
        )
    return area


def _like(before: Tensor, values: Tensor) -> Tensor:
    """Cast to the dtype of `before`, or to the default dtype if it is an integer."""
    floating = before.is_floating_point()
    return values.to(before.dtype if floating else torch.get_default_dtype())


def _draw_with_replacement(weights: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the drawn points and the new area of each."""
    cumulative = weights.cumsum(0)
    total = cumulative[-1]
    positions = torch.rand(count, dtype=weights.dtype, device=weights.device) * total
    return _interval_of(cumulative, positions), (total / count).expand(count)


def _draw_systematically(weights: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return distinct points and the new area of each."""
    falling, order = weights.sort(descending=True)
    order = order[falling > 0]
    falling = falling[falling > 0]
    # Total area of a point and all smaller ones, and the draws left after all larger
    # ones.
    left = falling.flip(0).cumsum(0).flip(0)
    draws = count - torch.arange(len(falling), device=weights.device)
    # A point at least as large as the remaining step is certain, as are all larger
    # ones.
    num_certain = int((falling * draws >= left).cumprod(0).sum())
    certain, rest = order[:num_certain], order[num_certain:]
    remaining = count - num_certain
    if len(rest) == 0 or remaining == 0:
        return certain, weights[certain]
    rest = rest[torch.randperm(len(rest), device=weights.device)]
    cumulative = weights[rest].cumsum(0)
    step = cumulative[-1] / remaining
    start = torch.rand((), dtype=weights.dtype, device=weights.device)
    positions = (torch.arange(remaining, device=weights.device) + start) * step
    drawn = rest[_interval_of(cumulative, positions)]
    return (
        torch.cat([certain, drawn]),
        torch.cat([weights[certain], step.expand(remaining)]),
    )


def _interval_of(cumulative: Tensor, positions: Tensor) -> Tensor:
    """Return the index of the interval that contains each position."""
    index = torch.searchsorted(cumulative, positions, right=True)
    return index.clamp(max=len(cumulative) - 1)  # a position may round up to the end
