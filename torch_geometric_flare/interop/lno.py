"""Checkpoints of the Latent Neural Operator's reference implementation."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from torch_geometric_flare.interop.tensors import (
    count,
    entry,
    head_width,
    load,
    rename,
)
from torch_geometric_flare.nn import LNO

# Name patterns of the reference and replacements, applied in order. Here, everything
# between the input and the head is one block.
_NAMES = (
    (r"^trunk_projector\.", "blocks.0.trunk."),
    (r"^branch_projector\.", "blocks.0.branch."),
    (r"^attention_projector\.", "blocks.0.score."),
    (r"^out_mlp\.", "head."),
    (r"^attn_blocks\.", "blocks.0.blocks."),
    (r"\.self_attn\.proj\.", ".out."),
    (r"\.ln1\.", ".attention_norm."),
    (r"\.ln2\.", ".feed_forward_norm."),
    (r"\.mlp\.0\.", ".feed_forward.layers.0."),
    (r"\.mlp\.2\.", ".feed_forward.layers.1."),
    (r"\.input\.", ".layers.0."),
)
_MAPS = ("Wq", "Wk", "Wv")


def build_lno(state: Mapping[str, Tensor], *, heads: int) -> LNO:
    """Rebuild an LNO of [arXiv 2406.03923](https://arxiv.org/abs/2406.03923).

    Args:
        state: Parameters under the reference's names, which begin with
            `trunk_projector.`, `branch_projector.`, `attention_projector.`,
            `attn_blocks.0.` and `out_mlp.`. Trunk and branch take the same input.
        heads: Number of attention heads.

    Returns:
        The network, in evaluation mode and with the dtype of the checkpoint.

    Raises:
        ValueError: If a parameter is missing, unknown or has a wrong shape, or `heads`
            does not divide the width.
    """
    width, in_channels = entry(state, "trunk_projector.input.weight").shape
    head_width(width, heads)
    mlp_layers = count(state, r"trunk_projector\.hidden\.(\d+)\.")
    score = entry(state, "attention_projector.output.weight")
    model = LNO(
        in_channels=in_channels,
        hidden_channels=width,
        out_channels=entry(state, "out_mlp.output.weight").size(0),
        num_layers=count(state, r"attn_blocks\.(\d+)\."),
        heads=heads,
        num_modes=score.size(0),
        mlp_layers=mlp_layers,
        mlp_ratio=entry(state, "attn_blocks.0.mlp.0.weight").size(0) // width,
    ).to(score.dtype)
    renamed = {}
    for name, value in state.items():
        if re.search(r"\.self_attn\.W[kv]\.", name):
            continue  # included with Wq
        if ".self_attn.Wq." in name:
            parts = [entry(state, name.replace(".Wq.", f".{w}.")) for w in _MAPS]
            value, name = torch.cat(parts), name.replace(".self_attn.Wq.", ".qkv.")
        new = rename(name, _NAMES)
        new = re.sub(r"\.hidden\.(\d+)\.", _layer_index, new)
        new = new.replace(".output.", f".layers.{mlp_layers + 1}.")
        renamed[new] = value
    return load(model, renamed)


def _layer_index(match: re.Match[str]) -> str:
    return f".layers.{int(match.group(1)) + 1}."
