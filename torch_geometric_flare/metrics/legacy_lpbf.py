"""The metric of the published results on LPBF."""

from torch import Tensor

from torch_geometric_flare.metrics.relative_l2 import relative_l2

# Mean and sample standard deviation of torch.rand(3, 1) with seed 0.
_SHIFT, _SCALE = 0.45098527, 0.34212604


def legacy_lpbf_error(
    pred: Tensor,
    target: Tensor,
    batch: Tensor | None = None,
    batch_size: int | None = None,
) -> Tensor:
    r"""Return the metric of the published results on LPBF for each graph.

    This is not a relative error of the displacement; use `relative_l2` for that, and
    this metric only to compare with published results. The code of the FLARE paper
    (<https://github.com/vpuri3/FLARE.py>, `pdebench/dataset/lpbf.py`, where it is
    called legacy) trains on the displacement in mm without normalization, but before it
    computes the relative $L_2$ error, it decodes prediction and target with a
    normalizer that was fitted to random numbers:

    $$
    e = \frac{\lVert s (\hat y - y) \rVert}{\lVert s y + m \rVert}, \qquad
    m = 0.45099, \quad s = 0.34213
    $$

    The shift $m$ makes the denominator large where the displacement is small, so $e$
    and the relative error cannot be converted into each other.

    Args:
        pred: Predicted $z$-displacement in mm.
        target: True $z$-displacement, of the same shape.
        batch: Graph of each point, sorted; `None` for a single graph.
        batch_size: Number of graphs. Default: the largest index in `batch` plus one.

    Shapes:
        - `pred`, `target`: $[N, 1]$ or $[N]$
        - `batch`: $[N]$, `torch.long`

    Returns:
        One value per graph, $[B]$.

    Raises:
        ValueError: See `relative_l2`; also for more than one channel.
    """
    if pred.dim() > 1 and pred.shape[1:] != (1,):
        raise ValueError(
            f"pred has shape {tuple(pred.shape)}, expected [N, 1]: the published "
            "results are only for the z-displacement"
        )
    return relative_l2(
        _SCALE * pred + _SHIFT, _SCALE * target + _SHIFT, batch, batch_size
    )
