"""Checkpoints of PerceiverIO with FLARE's input and output MLPs."""

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
from torch_geometric_flare.nn import PerceiverIO

# Name patterns of the reference and replacements, applied in order. Here, everything
# between the lift and the head is one block.
_NAMES = (
    (r"^in_proj\.", "lift."),
    (r"^out_proj\.ln\.", "norm."),
    (r"^out_proj\.mlp\.", "head."),
    (r"^blocks\.(\d+)\.mlp\.fc1\.", r"blocks.0.blocks.\1.feed_forward.layers.0."),
    (r"^blocks\.(\d+)\.mlp\.fc2\.", r"blocks.0.blocks.\1.feed_forward.layers.1."),
    (r"^blocks\.(\d+)\.att\.qkv_proj\.", r"blocks.0.blocks.\1.qkv."),
    (r"^blocks\.(\d+)\.att\.out_proj\.", r"blocks.0.blocks.\1.out."),
    (r"^blocks\.(\d+)\.ln1\.", r"blocks.0.blocks.\1.attention_norm."),
    (r"^blocks\.(\d+)\.ln2\.", r"blocks.0.blocks.\1.feed_forward_norm."),
    (r"^encoder\.latent_q$", "blocks.0.latents"),
    (r"^encoder\.ln\.", "blocks.0.encoder_norm."),
    (r"^decoder\.ln1\.", "blocks.0.latent_norm."),
    (r"^decoder\.ln2\.", "blocks.0.decoder_norm."),
    (r"^(encoder|decoder)\.q_proj\.", r"blocks.0.\1_query."),
    (r"^(encoder|decoder)\.k_proj\.", r"blocks.0.\1_key."),
    (r"^(encoder|decoder)\.v_proj\.", r"blocks.0.\1_value."),
    (r"^(encoder|decoder)\.out_proj\.", r"blocks.0.\1_out."),
)


def build_perceiver_io(state: Mapping[str, Tensor], *, heads: int) -> PerceiverIO:
    """Rebuild a PerceiverIO of [FLARE's comparison](https://arxiv.org/abs/2508.12594).

    Args:
        state: Parameters under the reference's names, which begin with `in_proj.`,
            `encoder.`, `blocks.0.`, `decoder.` and `out_proj.`.
        heads: Number of attention heads.

    Returns:
        The network, in evaluation mode and with the dtype of the checkpoint.

    Raises:
        ValueError: If a parameter is missing, unknown or has a wrong shape, or `heads`
            does not divide the width.
    """
    lift = entry(state, "in_proj.fc1.weight")
    num_latents, width = entry(state, "encoder.latent_q").shape
    head_channels = head_width(width, heads)
    model = PerceiverIO(
        in_channels=lift.size(1),
        hidden_channels=width,
        out_channels=entry(state, "out_proj.mlp.fc2.weight").size(0),
        num_layers=count(state, r"blocks\.(\d+)\."),
        heads=heads,
        num_latents=num_latents,
        mlp_ratio=entry(state, "blocks.0.mlp.fc1.weight").size(0) // width,
    ).to(lift.dtype)
    renamed = {}
    for name, value in state.items():
        new = rename_mlp_layer(rename(name, _NAMES), state, name)
        if new == "blocks.0.latents":
            value = value.view(num_latents, heads, head_channels).transpose(0, 1)
        renamed[new] = value
    return load(model, renamed)
