"""Checkpoints of the vanilla transformer with FLARE's input and output MLPs."""

from collections.abc import Mapping

from torch import Tensor

from torch_geometric_flare.interop.tensors import (
    count,
    entry,
    head_width,
    load,
    rename,
    rename_mlp_layer,
)
from torch_geometric_flare.nn import Transformer

# Name patterns of the reference and replacements, applied in order.
_NAMES = (
    (r"^in_proj\.", "lift."),
    (r"^out_proj\.0\.", "norm."),
    (r"^out_proj\.1\.", "head."),
    (r"\.norm1\.", ".mixer_norm."),
    (r"\.norm2\.", ".feed_forward_norm."),
    (r"\.mlp\.", ".feed_forward."),
    (r"\.att\.qkv_proj\.", ".mixer.qkv."),
    (r"\.att\.out_proj\.", ".mixer.out."),
)


def build_transformer(state: Mapping[str, Tensor], *, heads: int) -> Transformer:
    """Rebuild the transformer of [FLARE's comparison](https://arxiv.org/abs/2508.12594).

    Args:
        state: Parameters under the reference's names, which begin with `in_proj.`,
            `blocks.0.att.qkv_proj.` and so on, and `out_proj.`.
        heads: Number of attention heads.

    Returns:
        The network, in evaluation mode and with the dtype of the checkpoint.

    Raises:
        ValueError: If a parameter is missing, unknown or has a wrong shape, or `heads`
            does not divide the width.
    """
    lift = entry(state, "in_proj.fc1.weight")
    width = lift.size(0)
    head_width(width, heads)
    inner = entry(state, "blocks.0.mlp.fc1.weight")
    model = Transformer(
        in_channels=lift.size(1),
        hidden_channels=width,
        out_channels=entry(state, "out_proj.1.fc2.weight").size(0),
        num_layers=count(state, r"blocks\.(\d+)\."),
        heads=heads,
        mlp_ratio=inner.size(0) // width,
    ).to(lift.dtype)
    return load(
        model,
        {
            rename_mlp_layer(rename(name, _NAMES), state, name): value
            for name, value in state.items()
        },
    )
