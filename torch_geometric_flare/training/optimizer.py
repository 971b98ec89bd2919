"""Which parameters decay."""

from typing import Any

from torch import nn

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split parameters into those that decay and those that do not.

    Exempt are the parameters of norms, everything of fewer than two dimensions, and
    what a module names in its class attribute `no_weight_decay`:

        class Mixer(nn.Module):
            no_weight_decay = ("latents",)

    Args:
        model: The module whose trainable parameters are split.
        weight_decay: The decay of the first group.

    Returns:
        Two groups for a `torch.optim` optimiser, the second with a decay of zero; an
        empty group is left out. A parameter that several modules share is exempt if one
        of them exempts it.

    Raises:
        ValueError: If `no_weight_decay` of a module is no tuple of names of its own
            parameters.
    """
    exempt = {
        parameter for module in model.modules() for parameter in _exempt_of(module)
    }
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {
            "params": [p for p in trainable if p not in exempt],
            "weight_decay": weight_decay,
        },
        {"params": [p for p in trainable if p in exempt], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _exempt_of(module: nn.Module) -> list[nn.Parameter]:
    """Collect what a module exempts of its own parameters, not of its children's."""
    # A parameter that a module can do without may be registered as None.
    known = set(module._parameters)
    declared = getattr(module, "no_weight_decay", ())
    if not isinstance(declared, tuple) or not known.issuperset(declared):
        raise ValueError(
            f"{type(module).__name__}.no_weight_decay is {declared!r}, expected a "
            f"tuple of names of its own parameters, {sorted(known)}"
        )
    return [
        parameter
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(module, _NORMS) or parameter.dim() < 2 or name in declared
    ]
