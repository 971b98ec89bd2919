"""The measure of the published figures on LPBF."""

from torch import Tensor

from torch_geometric_flare.metrics.relative_l2 import relative_l2

# Mean and sample deviation of torch.rand(3, 1), drawn with the seed 0.
_SHIFT, _SCALE = 0.45098527, 0.34212604


def legacy_lpbf_error(
    pred: Tensor,
    target: Tensor,
    batch: Tensor | None = None,
    batch_size: int | None = None,
) -> Tensor:
    r"""Return the measure that published figures on LPBF are of, one per graph.

    It is not a relative error of the displacement: use `relative_l2` for that, and this
    one beside published figures alone. The code of the FLARE paper
    (<https://github.com/vpuri3/FLARE.py>, `pdebench/dataset/lpbf.py`, where it is
    called legacy) trains on the displacement in mm as it is, but decodes prediction
    and target, before it takes their relative $L_2$ error, with a normaliser that was
    made of random numbers:

    $$
    e = \frac{\lVert s (\hat y - y) \rVert}{\lVert s y + m \rVert}, \qquad
    m = 0.45099, \quad s = 0.34213
    $$

    The shift $m$ makes the denominator large where the displacement is small, so that
    $e$ and the relative error cannot be turned into one another.

    Args:
        pred: Predicted $z$-displacement in mm.
        target: True one, of the same shape.
        batch: Graph of each point, sorted; `None` for a single graph.
        batch_size: Number of graphs; by default the largest in `batch` plus one.

    Shapes:
        - `pred`, `target`: $[N, 1]$ or $[N]$
        - `batch`: $[N]$, `torch.long`

    Returns:
        One number for each graph, $[B]$.

    Raises:
        ValueError: As `relative_l2` does, and for more than one channel.
    """
    if pred.dim() > 1 and pred.shape[1:] != (1,):
        raise ValueError(
            f"pred has shape {tuple(pred.shape)}, expected [N, 1]: the published "
            "figures are of the z-displacement alone"
        )
    return relative_l2(
        _SCALE * pred + _SHIFT, _SCALE * target + _SHIFT, batch, batch_size
    )
