"""Random points of a surface, drawn by area, whose areas keep the sum of the whole."""

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import BaseTransform

from torch_geometric_flare._arguments import check_integers

# What names points by their place, and is not a list of edges.
_UNKEPT = ("cells", "face", "grid")


class AreaWeightedPoints(BaseTransform):
    r"""Draw points with probability in proportion to their `area`, and rescale `area`.

    `FixedPoints` of PyTorch Geometric leaves areas as they are, so that drag, lift or
    any other integral over a subset comes out too small. Here the areas of the $n$
    drawn points stand for the whole surface of area $A = \sum_i a_i$: for any field
    $f$, the expectation of $\sum_\mathrm{drawn} a' f$ is $\sum_i a_i f_i$, and
    $\sum_\mathrm{drawn} a'$ is $A$ exactly.

    - With replacement, points are drawn one by one with probability $a_i / A$, and each
      stands for $a' = A / n$ (Hansen and Hurwitz,
      [1943](https://doi.org/10.1214/aoms/1177731356)).
    - Without replacement, a point is in the subset with probability
      $\pi_i = \min(1, a_i / c)$, where $c$ makes these sum to $n$, and stands for
      $a' = a_i / \pi_i$ (Horvitz and Thompson,
      [1952](https://doi.org/10.1080/01621459.1952.10483446)): points of area above $c$
      are all taken and keep their area, the others stand for $c$ each. They are taken
      at equal steps of the cumulative area, in random order, from a random start
      (systematic sampling), which meets $\pi_i$ exactly; drawing one after another
      would not.

    A `weight` of the points is rescaled as their areas are. Every other value per point
    is carried along, and so are the edges between drawn points, with their values.
    Drawn points keep their order. Points without area are never drawn. Random numbers
    come from torch's global generator, as in `FixedPoints`.

    Args:
        num_points: Points to draw, $n$. Without replacement a sample with fewer points
            of positive area keeps all of these.
        replace: Draw with replacement: points may occur twice.

    Raises:
        ValueError: If `num_points` is below one. When applied: if the sample is a
            batch; lacks `area`, or its areas are of another shape, negative, not
            finite or all zero; or has `cells`, `face` or `grid`, which a subset of the
            points does not have, or, with replacement, `edge_index`.
    """

    def __init__(self, num_points: int, replace: bool = False) -> None:
        check_integers(1, num_points=num_points)
        self.num_points = num_points
        self.replace = replace

    def forward(self, data: Data) -> Data:
        """Return the drawn points, with areas that stand for all of them."""
        area = _checked_area(data)
        self._check_connectivity(data)
        weights = area.detach().flatten().double()
        if self.replace:
            chosen, stands_for = _draw_with_replacement(weights, self.num_points)
        else:
            chosen, stands_for = _draw_systematically(weights, self.num_points)
        chosen, order = chosen.sort()
        subset = data.subgraph(chosen)
        subset.area = _like(area, stands_for[order].view(-1, *area.shape[1:]))
        if "weight" in data:
            # Divided by the chance of being drawn, as areas are.
            rarity = (stands_for[order] / weights[chosen]).view(
                -1, *[1] * (data.weight.dim() - 1)
            )
            subset.weight = _like(data.weight, data.weight[chosen] * rarity)
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
        raise ValueError(
            "data is a batch: draw the points of each sample before batching"
        )
    area = data.get("area")
    if not isinstance(area, Tensor):
        raise ValueError(
            "the sample has no `area`, which says how often to draw a point: add "
            "data.area of shape [N], or use FixedPoints of torch_geometric.transforms"
        )
    if area.shape not in ((data.num_nodes,), (data.num_nodes, 1)):
        raise ValueError(
            f"area has shape {tuple(area.shape)}, expected ({data.num_nodes},) or "
            f"({data.num_nodes}, 1)"
        )
    if not bool((area.isfinite() & (area >= 0)).all() and (area > 0).any()):
        raise ValueError(
            "area must be finite, not negative, and somewhere positive, got values "
            f"from {area.min().item()} to {area.max().item()}"
            if area.numel()
            else "the sample has no points to draw"
        )
    return area


def _like(before: Tensor, values: Tensor) -> Tensor:
    """Cast to the dtype of `before`; where that is of integers, values are none."""
    floating = before.is_floating_point()
    return values.to(before.dtype if floating else torch.get_default_dtype())


def _draw_with_replacement(weights: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the drawn points and the area that each stands for."""
    cumulative = weights.cumsum(0)
    total = cumulative[-1]
    places = torch.rand(count, dtype=weights.dtype, device=weights.device) * total
    return _at(cumulative, places), (total / count).expand(count)


def _draw_systematically(weights: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return distinct points and the area that each stands for."""
    falling, order = weights.sort(descending=True)
    order = order[falling > 0]
    falling = falling[falling > 0]
    # Area of a point and all smaller ones; what draws are left once larger are taken.
    left = falling.flip(0).cumsum(0).flip(0)
    draws = count - torch.arange(len(falling), device=weights.device)
    # A point as large as the step of those left is certain, and so are all larger ones.
    num_certain = int((falling * draws >= left).cumprod(0).sum())
    certain, rest = order[:num_certain], order[num_certain:]
    remaining = count - num_certain
    if len(rest) == 0 or remaining == 0:
        return certain, weights[certain]
    rest = rest[torch.randperm(len(rest), device=weights.device)]
    cumulative = weights[rest].cumsum(0)
    step = cumulative[-1] / remaining
    start = torch.rand((), dtype=weights.dtype, device=weights.device)
    places = (torch.arange(remaining, device=weights.device) + start) * step
    drawn = rest[_at(cumulative, places)]
    return (
        torch.cat([certain, drawn]),
        torch.cat([weights[certain], step.expand(remaining)]),
    )


def _at(cumulative: Tensor, places: Tensor) -> Tensor:
    """Return in which of the consecutive intervals each place lies."""
    found = torch.searchsorted(cumulative, places, right=True)
    return found.clamp(max=len(cumulative) - 1)  # a place may round up to the end
