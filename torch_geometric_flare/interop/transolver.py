"""Checkpoints of Transolver's reference implementation, with and without a grid."""

from collections.abc import Mapping

from torch import Tensor

from torch_geometric_flare.interop.tensors import (
    count,
    entry,
    head_width,
    load,
    rename,
)
from torch_geometric_flare.nn import Transolver

# Name patterns of the reference and replacements, applied in order.
_NAMES = (
    (r"^placeholder$", "lift.placeholder"),
    (r"^preprocess\.", "lift.mlp."),
    (r"\.linear_pre\.0\.", ".layers.0."),
    (r"\.linear_post\.", ".layers.1."),
    (r"\.ln_1\.", ".mixer_norm."),
    (r"\.ln_2\.", ".feed_forward_norm."),
    (r"^(blocks\.\d+)\.mlp\.", r"\1.feed_forward."),
    (r"\.Attn\.in_project_x\.", ".mixer.point."),
    (r"\.Attn\.in_project_fx\.", ".mixer.feature."),
    (r"\.Attn\.in_project_slice\.", ".mixer.slice."),
    (r"\.Attn\.to_q\.", ".mixer.query."),
    (r"\.Attn\.to_k\.", ".mixer.key."),
    (r"\.Attn\.to_v\.", ".mixer.value."),
    (r"\.Attn\.to_out\.0\.", ".mixer.out."),
    (r"\.Attn\.temperature$", ".mixer.temperature"),
)


def build_transolver(state: Mapping[str, Tensor], *, heads: int) -> Transolver:
    """Rebuild a Transolver of [arXiv 2402.02366](https://arxiv.org/abs/2402.02366).

    Args:
        state: Parameters under the reference's names, which begin with `preprocess.`,
            `placeholder` and `blocks.0.`.
        heads: Number of attention heads.

    Returns:
        The network, in evaluation mode and with the dtype of the checkpoint.

    Raises:
        ValueError: If a parameter is missing, unknown or has a wrong shape, or `heads`
            does not divide the width.
    """
    return _build(state, heads, None)


def build_transolver_conv2d(
    state: Mapping[str, Tensor], *, heads: int, grid: tuple[int, int]
) -> Transolver:
    """Rebuild a Transolver with convolutions for structured 2D meshes.

    Args:
        state: Parameters under the reference's names, as in `build_transolver`.
        heads: Number of attention heads.
        grid: Rows and columns of the grid.

    Returns:
        The network, in evaluation mode and with the dtype of the checkpoint.

    Raises:
        ValueError: See `build_transolver`; also if `grid` is not a pair of sizes.
    """
    return _build(state, heads, grid)


def _build(
    state: Mapping[str, Tensor], heads: int, grid: tuple[int, int] | None
) -> Transolver:
    lift = entry(state, "preprocess.linear_pre.0.weight")
    width = entry(state, "preprocess.linear_post.weight").size(0)
    head_width(width, heads)
    num_layers = count(state, r"blocks\.(\d+)\.")
    last = f"blocks.{num_layers - 1}"
    inner = entry(state, "blocks.0.mlp.linear_pre.0.weight")
    model = Transolver(
        in_channels=lift.size(1),
        hidden_channels=width,
        out_channels=entry(state, f"{last}.mlp2.weight").size(0),
        num_layers=num_layers,
        heads=heads,
        num_slices=entry(state, "blocks.0.Attn.in_project_slice.weight").size(0),
        mlp_ratio=inner.size(0) // width,
        grid=grid,
    ).to(lift.dtype)
    # The last block of the reference also has the norm and the head.
    names = (
        *_NAMES,
        (rf"^{last}\.ln_3\.", "norm."),
        (rf"^{last}\.mlp2\.", "head.layers.0."),
    )
    renamed = {}
    for name, value in state.items():
        new = rename(name, names)
        # [1, H, 1, 1] in the reference
        renamed[new] = value.flatten() if new.endswith(".temperature") else value
    return load(model, renamed)
