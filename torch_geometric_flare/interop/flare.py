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
from torch_geometric_flare.nn.dense.residual_mlp import Activation

# Name patterns of the reference and replacements, applied in order.
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
    act: Activation = "gelu",
) -> FLARE:
    """Rebuild a FLARE of [arXiv 2508.12594](https://arxiv.org/abs/2508.12594).

    Args:
        state: Parameters under the reference's names, which begin with `in_proj.`,
            `blocks.0.` and `out_proj.`.
        heads: Number of attention heads.
        scale: Scaling factor of the attention scores.
        qk_norm: Whether queries and keys are normalized.
        act: Activation of the MLPs, which cannot be inferred from tensors.

    Returns:
        The network, in evaluation mode and with the dtype of the checkpoint.

    Raises:
        ValueError: If a parameter is missing, unknown or has a wrong shape, `heads`
            does not divide the width, or the checkpoint uses an option that `FLARE`
            does not support: RMSNorm, no norm before the head, MLPs that are wider than
            the network, or different depths of keys and values.
    """
    first = "fc" if "in_proj.fc.weight" in state else "fc1"
    lift = entry(state, f"in_proj.{first}.weight")
    latents = entry(state, "blocks.0.att.latent_q")
    width, num_latents = latents.shape
    # The reference views one [C, M] tensor as [H, M, D]: the same memory with another
    # shape, not a transpose.
    _check_options(state, width, qk_norm)
    last = "fc" if "out_proj.1.fc.weight" in state else "fc2"
    latents_shape = (heads, num_latents, head_width(width, heads))
    model = FLARE(
        in_channels=lift.size(1),
        hidden_channels=width,
        out_channels=entry(state, f"out_proj.1.{last}.weight").size(0),
        num_layers=count(state, r"blocks\.(\d+)\."),
        heads=heads,
        num_latents=num_latents,
        kv_layers=_depth(state, "blocks.0.att.k_proj.", "blocks.0.att.v_proj."),
        mlp_layers=mlp_layers(state, "blocks.0.mlp."),
        scale=scale,
        act=act,
        qk_norm=qk_norm,
        lift_layers=_depth(state, "in_proj.", "out_proj.1."),
    ).to(latents.dtype)
    renamed = {}
    for name, value in state.items():
        new = rename_mlp_layer(rename(name, _NAMES), state, name)
        renamed[new] = (
            value.reshape(latents_shape) if new.endswith(".latents") else value
        )
    return load(model, renamed)


def _depth(state: Mapping[str, Tensor], one: str, other: str) -> int:
    """Return the common depth of two MLPs."""
    depths = mlp_layers(state, one), mlp_layers(state, other)
    if depths[0] != depths[1]:
        raise ValueError(
            f"{one}* has depth {depths[0]} and {other}* {depths[1]}, but FLARE has one "
            "depth for both"
        )
    return depths[0]


def _check_options(state: Mapping[str, Tensor], width: int, qk_norm: bool) -> None:
    """Raise `ValueError` for unsupported options that are visible in the tensors."""
    if "blocks.0.norm1.weight" in state and not any(
        name.endswith(".norm1.bias") for name in state
    ):
        raise ValueError(
            "state_dict has 'blocks.0.norm1.weight' and no 'blocks.0.norm1.bias', as "
            "with rmsnorm=True, but FLARE has LayerNorm"
        )
    if not any(name.startswith("out_proj.0.") for name in state):
        raise ValueError(
            "state_dict has no 'out_proj.0.weight', as with out_proj_norm=False, but "
            "FLARE has a LayerNorm before its head"
        )
    for name in ("att.k_proj", "att.v_proj", "mlp"):
        inner = state.get(f"blocks.0.{name}.fc1.weight")
        if inner is not None and inner.size(0) != width:
            raise ValueError(
                f"blocks.0.{name} has a hidden width of {inner.size(0)}, an MLP ratio "
                f"of {inner.size(0) / width:g}, but MLPs of FLARE have the width "
                f"{width} of the network, a ratio of 1"
            )
    normed = "blocks.0.att.q_norm.weight" in state
    if normed != qk_norm:
        raise ValueError(
            f"qk_norm is {qk_norm}, but state_dict has "
            f"{'a' if normed else 'no'} 'blocks.0.att.q_norm.weight': pass "
            f"qk_norm={normed}"
        )
