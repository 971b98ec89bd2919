"""Checkpoints of GNOT's reference implementation."""

from collections.abc import Mapping
from math import isqrt

from torch import Tensor

from torch_geometric_flare.interop.tensors import (
    count,
    entry,
    head_width,
    load,
    rename,
)
from torch_geometric_flare.nn import GNOT

# Name patterns of the reference and replacements, applied in order.
_NAMES = (
    (r"^placeholder$", "lift.placeholder"),
    (r"^preprocess_x\.", "lift.geometry."),
    (r"^preprocess_z\.", "lift.state."),
    (r"\.linear_pre\.0\.", ".layers.0."),
    (r"\.linear_post\.", ".layers.1."),
    (r"\.ln1\.", ".geometry_norm."),
    (r"\.ln2\.", ".state_norm."),
    (r"\.ln3\.", ".experts1_norm."),
    (r"\.ln4\.", ".self_attention_norm."),
    (r"\.ln5\.", ".experts2_norm."),
    (r"\.crossattn\.", ".cross_attention."),
    (r"\.selfattn\.", ".self_attention."),
    (r"_attention\.proj\.", "_attention.out."),
    (r"\.moe_mlp([12])\.(\d+)\.0\.", r".experts\1.experts.\2.layers.0."),
    (r"\.moe_mlp([12])\.(\d+)\.2\.", r".experts\1.experts.\2.layers.1."),
    (r"\.gatenet\.", ".gate."),
    (r"^fc1\.", "head.mlp.layers.0."),
    (r"^fc2\.", "head.mlp.layers.1."),
)


def build_gnot(
    state: Mapping[str, Tensor], *, heads: int, grid: tuple[int, int] | None = None
) -> GNOT:
    """Rebuild a GNOT of [arXiv 2302.14376](https://arxiv.org/abs/2302.14376).

    Args:
        state: Parameters under the reference's names: `placeholder`, and those that
            begin with `preprocess_x.`, `preprocess_z.`, `blocks.0.`, `fc1.` and `fc2.`.
        heads: Number of attention heads.
        grid: Rows and columns of the points, if the embeddings take distances to a
            reference grid.

    Returns:
        The network, in evaluation mode and with the dtype of the checkpoint.

    Raises:
        ValueError: If a parameter is missing, unknown or has a wrong shape, `heads`
            does not divide the width, or the width of the embeddings' input does not
            fit `grid`.
    """
    embedding = entry(state, "preprocess_x.linear_pre.0.weight")
    gate = entry(state, "blocks.0.gatenet.0.weight")
    width = entry(state, "placeholder").size(0)
    head_width(width, heads)
    embedded, in_channels = embedding.size(1), gate.size(1)
    reference = isqrt(embedded)
    if grid is None and embedded != in_channels:
        raise ValueError(
            f"grid is None, but the embeddings take {embedded} channels and the gates "
            f"{in_channels}: pass the grid of the points"
        )
    if grid is not None and reference**2 != embedded:
        raise ValueError(
            f"grid is {grid}, but the embeddings take {embedded} channels, not a "
            "square of a reference grid: omit grid"
        )
    model = GNOT(
        in_channels=in_channels,
        hidden_channels=width,
        out_channels=entry(state, "fc2.weight").size(0),
        num_layers=count(state, r"blocks\.(\d+)\."),
        heads=heads,
        num_experts=count(state, r"blocks\.0\.moe_mlp1\.(\d+)\."),
        mlp_ratio=gate.size(0) // width,
        grid=grid,
        reference_grid=8 if grid is None else reference,
    ).to(embedding.dtype)
    return load(model, {rename(name, _NAMES): value for name, value in state.items()})
