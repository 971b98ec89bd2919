"""The optimizer of a recipe, and which parameters it treats in which way."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch_geometric import nn as geometric

from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.surrogates import unwrap
from torch_geometric_flare.training.muon import MuonAdamW

_LINEAR = (nn.Linear, geometric.Linear)
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


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """List the trainable matrices that map hidden features to hidden features.

    These are the weights of linear maps, of torch or of PyG, inside a `nn.ModuleList`
    that is a child of the network, such as its `blocks`. The first and last layers
    stand outside of it. A module inside that also maps the network's input names the
    children that do so in a class attribute, and they are left out:

        class Block(nn.Module):
            input_maps = ("gate",)

    Args:
        model: The network.

    Returns:
        Each matrix once, in the order of `model.parameters()`.
    """
    model = unwrap(model)
    stacks = [child for child in model.children() if isinstance(child, nn.ModuleList)]
    hidden = {weight for stack in stacks for weight in _weights(stack)}
    return [p for p in model.parameters() if p in hidden and p.requires_grad]


def _weights(module: nn.Module) -> Iterator[Tensor]:
    """Yield the weights of linear maps, without those of `input_maps`."""
    if isinstance(module, _LINEAR):
        yield module.weight
    left_out = getattr(module, "input_maps", ())
    for name, child in module.named_children():
        if name not in left_out:
            yield from _weights(child)


def build_optimizer(model: nn.Module, recipe: Recipe) -> Optimizer:
    """Return the optimizer that a recipe names, at its peak learning rates.

    Args:
        model: The network to train.
        recipe: Its hyperparameters.

    Returns:
        `torch.optim.AdamW` over `parameter_groups`; or `MuonAdamW`, with Muon for the
        `hidden_matrices` and AdamW, over the same groups, for all other parameters.

    Raises:
        ValueError: If the recipe names Muon and the network has no hidden matrices.
    """
    groups = parameter_groups(model, recipe.weight_decay)
    if recipe.optimizer == "adamw":
        return AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas)
    matrices = hidden_matrices(model)
    if not matrices:
        raise ValueError(
            f"optimizer is 'muon', but {type(unwrap(model)).__name__} has no torch.nn."
            "Linear inside a torch.nn.ModuleList: choose optimizer='adamw'"
        )
    chosen = set(matrices)
    for group in groups:
        group["params"] = [p for p in group["params"] if p not in chosen]
    muon = {
        "params": matrices,
        "lr": recipe.peak_matrix_learning_rate,
        "weight_decay": recipe.weight_decay,
        "muon": True,
    }
    return MuonAdamW(
        [muon, *(group for group in groups if group["params"])],
        lr=recipe.learning_rate,
        betas=recipe.betas,
    )


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
