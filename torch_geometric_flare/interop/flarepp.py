"""Checkpoints of FLARE++'s reference implementation."""

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
from torch_geometric_flare.nn import FLAREPP

# Name patterns of the reference and replacements, applied in order.
_NAMES = (
    (r"^in_proj\.", "lift."),
    (r"^out_proj\.0\.", "norm."),
    (r"^out_proj\.1\.", "head."),
    (r"\.norm1\.", ".mixer_norm."),
    (r"\.norm2\.", ".feed_forward_norm."),
    (r"\.ffn\.", ".feed_forward."),
    (r"\.mixer\.latent_q0$", ".mixer.seeds"),
    (r"\.mixer\.latent_q_fixed$", ".mixer.latents"),
    (r"\.mixer\.gate_logit$", ".mixer.gate"),
    (r"\.mixer\.q0_norm\.", ".mixer.seed_norm."),
    (r"\.mixer\.k_norm\.", ".mixer.key_norm."),
    (r"\.mixer\.k0_proj\.", ".mixer.context."),
    (r"\.mixer\.k_proj\.", ".mixer.key."),
    (r"\.mixer\.v_proj\.", ".mixer.value."),
    (r"\.mixer\.out_proj\.", ".mixer.out."),
)


def build_flarepp(state: Mapping[str, Tensor], *, heads: int) -> FLAREPP:
    """Rebuild a FLARE++ of [arXiv 2608.11519](https://arxiv.org/abs/2608.11519).

    Args:
        state: Parameters under the reference's names, which begin with `in_proj.`,
            `blocks.0.` and `out_proj.`.
        heads: Number of attention heads.

    Returns:
        The network, in evaluation mode and with the dtype of the checkpoint.

    Raises:
        ValueError: If a parameter is missing, unknown or has a wrong shape, or `heads`
            does not fit the latents.
    """
    lift = entry(state, "in_proj.fc1.weight")
    width = lift.size(0)
    head_width(width, heads)
    inner = entry(state, "blocks.0.ffn.fc1.weight")
    model = FLAREPP(
        in_channels=lift.size(1),
        hidden_channels=width,
        out_channels=entry(state, "out_proj.1.fc2.weight").size(0),
        num_layers=count(state, r"blocks\.(\d+)\."),
        heads=heads,
        num_latents=entry(state, "blocks.0.mixer.latent_q0").size(-2),
        mlp_ratio=inner.size(0) // width,
    ).to(lift.dtype)
    return load(
        model,
        {
            rename_mlp_layer(rename(name, _NAMES), state, name): value
            for name, value in state.items()
        },
    )
