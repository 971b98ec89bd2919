"""Checkpoints of reference implementations as modules of this package."""

import re
from collections.abc import Mapping

from torch import Tensor, nn

from torch_geometric_flare.nn import FLARE

# The reference's names and ours, as patterns applied in order.
_FLARE_NAMES = (
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


def from_reference(
    architecture: str,
    state_dict: Mapping[str, Tensor],
    *,
    heads: int,
    scale: float | None = None,
    qk_norm: bool = False,
) -> nn.Module:
    r"""Rebuild a reference checkpoint as a module of this package.

    Sizes are read off the tensors; what those do not show is an argument.

    Args:
        architecture: `"flare"`, the network of
            [arXiv 2508.12594](https://arxiv.org/abs/2508.12594).
        state_dict: Parameters under the reference's names, which begin with
            `in_proj.`, `blocks.0.` and `out_proj.`.
        heads: Attention heads.
        scale: Factor on the attention scores; `None` is that architecture's own,
            1 for FLARE.
        qk_norm: Whether queries and keys were normalised.

    Returns:
        The module, in evaluation mode and in the precision of the checkpoint.

    Raises:
        ValueError: If the architecture is unknown, a parameter is missing, unknown
            or of a wrong shape, or `heads` does not fit.
    """
    if architecture != "flare":
        raise ValueError(f"architecture is {architecture!r}, expected 'flare'")
    return _flare(state_dict, heads, 1.0 if scale is None else scale, qk_norm)


def _flare(
    state: Mapping[str, Tensor], heads: int, scale: float, qk_norm: bool
) -> FLARE:
    lift = _entry(state, "in_proj.fc1.weight")
    latents = _entry(state, "blocks.0.att.latent_q")
    width, num_latents = latents.shape
    if heads < 1 or width % heads:
        raise ValueError(f"heads is {heads}, which does not divide the width {width}")
    model = FLARE(
        in_channels=lift.size(1),
        hidden_channels=width,
        out_channels=_entry(state, "out_proj.1.fc2.weight").size(0),
        num_layers=_count(state, r"blocks\.(\d+)\."),
        heads=heads,
        num_latents=num_latents,
        kv_layers=_count(state, r"blocks\.0\.att\.k_proj\.fcs\.(\d+)\."),
        mlp_layers=_count(state, r"blocks\.0\.mlp\.fcs\.(\d+)\."),
        scale=scale,
        qk_norm=qk_norm,
    ).to(latents.dtype)
    renamed = {}
    for name, value in state.items():
        new = name
        for pattern, replacement in _FLARE_NAMES:
            new = re.sub(pattern, replacement, new)
        if new.endswith(".latents"):
            # One [C, M] tensor that the reference reads as [H, M, D]: the same
            # memory in another shape, not a transpose.
            value = value.reshape(heads, num_latents, width // heads)
        renamed[_mlp_layer(new, state, name)] = value
    return _load(model, renamed)


def _mlp_layer(new: str, state: Mapping[str, Tensor], name: str) -> str:
    """`fc1`, `fcs.i`, `fc2` of a residual MLP as places in one list."""
    match = re.match(r"(.*\.)(fc1|fc2|fcs\.(\d+))(\.\w+)$", new)
    if match is None:
        return new
    prefix, layer, inner, suffix = match.groups()
    if inner is not None:
        place = int(inner) + 1
    elif layer == "fc1":
        place = 0
    else:
        own = re.escape(name[: name.rindex("fc2")])
        place = _count(state, own + r"fcs\.(\d+)\.") + 1
    return f"{prefix}layers.{place}{suffix}"


def _entry(state: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in state:
        raise ValueError(f"state_dict has no {name!r}: is it of this architecture?")
    return state[name]


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many different numbers the pattern's group takes at the names' start."""
    matches = (re.match(pattern, name) for name in state)
    return len({match.group(1) for match in matches if match})


def _load(model: FLARE, renamed: Mapping[str, Tensor]) -> FLARE:
    own = model.state_dict()
    missing, unknown = sorted(own.keys() - renamed), sorted(renamed.keys() - own)
    if missing or unknown:
        raise ValueError(
            f"state_dict does not fit: missing {missing}, unknown {unknown}; check "
            "qk_norm and the architecture"
        )
    for name, value in renamed.items():
        if value.shape != own[name].shape:
            raise ValueError(
                f"{name} has shape {tuple(value.shape)}, expected "
                f"{tuple(own[name].shape)}"
            )
    model.load_state_dict(renamed)
    return model.eval()
