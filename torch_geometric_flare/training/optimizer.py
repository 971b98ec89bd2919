"""Which parameters decay."""

from typing import Any

from torch import nn

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split parameters into those that decay and those that do not.

    Exempt are the parameters of norms, everything of fewer than two dimensions, biases
    of any shape, and latent arrays, known by `latent` in their name.

    Args:
        model: The module whose trainable parameters are split.
        weight_decay: The decay of the first group.

    Returns:
        Two groups for a `torch.optim` optimiser, the second with a decay of zero; an
        empty group is left out.
    """
    decayed: list[nn.Parameter] = []
    exempt: list[nn.Parameter] = []
    seen: set[nn.Parameter] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter in seen or not parameter.requires_grad:
                continue
            seen.add(parameter)
            is_exempt = (
                isinstance(module, _NORMS)
                or parameter.dim() < 2
                or name.endswith("bias")
                or "latent" in name
            )
            (exempt if is_exempt else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": exempt, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
