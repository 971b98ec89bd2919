"""Checkpoints of FLARE's reference implementation."""

from collections.abc import Mapping

from torch import Tensor

from torch_geometric_flare.interop.tensors import (
    count,
    entry,
    head_width,
    load,
    mlp_layers,
    rename,
    rename_mlp_layer,
)
from torch_geometric_flare.nn import FLARE

# The reference's names and ours, as patterns applied in order.
_NAMES = (
    (r"^in_proj\.", "lift."),
    (r"^out_proj\.0\.", "norm."),
    (r"^out_proj\.1\.", "head."),
    (r"\.norm1\.", ".mixer_norm."),
    (r"\.norm2\.", ".feed_forward_norm."),
    (r"\.mlp\.", ".feed_forward."),
    (r"\.att\.latent_q$", ".mixer.latents"),
    (r"\.att\.k_proj\.", ".mixer.key_mlp."),
    (r"\.att\.v_proj\.", ".mixer.value_mlp."),
    (r"\.att\.q_norm\.", ".mixer.query_norm."),
    (r"\.att\.k_norm\.", ".mixer.key_norm."),
    (r"\.att\.out_proj\.", ".mixer.out."),
)


def build_flare(
    state: Mapping[str, Tensor],
    *,
    heads: int,
    scale: float = 1.0,
    qk_norm: bool = False,
) -> FLARE:
    """Rebuild a FLARE of [arXiv 2508.12594](https://arxiv.org/abs/2508.12594).

    Args:
        state: Parameters under the reference's names, which begin with `in_proj.`,
            `blocks.0.` and `out_proj.`.
        heads: Attention heads.
        scale: Factor on the attention scores.
        qk_norm: Whether queries and keys are normalised.

    Returns:
        The network, in evaluation mode and in the precision of the checkpoint.

    Raises:
        ValueError: If a parameter is missing, unknown or of a wrong shape, or `heads`
            does not divide the width.
    """
    lift = entry(state, "in_proj.fc1.weight")
    latents = entry(state, "blocks.0.att.latent_q")
    width, num_latents = latents.shape
    # One [C, M] tensor that the reference reads as [H, M, D]: the same memory in
    # another shape, not a transpose.
    latents_shape = (heads, num_latents, head_width(width, heads))
    model = FLARE(
        in_channels=lift.size(1),
        hidden_channels=width,
        out_channels=entry(state, "out_proj.1.fc2.weight").size(0),
        num_layers=count(state, r"blocks\.(\d+)\."),
        heads=heads,
        num_latents=num_latents,
        kv_layers=mlp_layers(state, "blocks.0.att.k_proj."),
        mlp_layers=mlp_layers(state, "blocks.0.mlp."),
        scale=scale,
        qk_norm=qk_norm,
    ).to(latents.dtype)
    renamed = {}
    for name, value in state.items():
        new = rename_mlp_layer(rename(name, _NAMES), state, name)
        renamed[new] = (
            value.reshape(latents_shape) if new.endswith(".latents") else value
        )
    return load(model, renamed)
