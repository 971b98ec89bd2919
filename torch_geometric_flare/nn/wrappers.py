"""Access to the network inside wrapper modules."""

import inspect

from torch import nn

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def unwrap(model: nn.Module) -> nn.Module:
    """Return the network inside wrappers.

    A wrapper is a module with one child and `forward(*args, **kwargs)`, such as the
    result of `torch.compile`, `torch.optim.swa_utils.AveragedModel`,
    `DistributedDataParallel`, `checkpoint_wrapper`, or peft.

    Args:
        model: The network in any number of wrappers.
    """
    while _takes_anything(model):
        children = list(model.children())
        if len(children) != 1:
            break
        (model,) = children
    return model


def forward_parameters(model: nn.Module) -> dict[str, inspect.Parameter]:
    """Return the named parameters of the forward of the network inside wrappers."""
    return {
        name: parameter
        for name, parameter in _signature(unwrap(model)).items()
        if parameter.kind not in _VARIADIC
    }


def _takes_anything(model: nn.Module) -> bool:
    parameters = _signature(model).values()
    return len(parameters) > 0 and all(p.kind in _VARIADIC for p in parameters)


def _signature(model: nn.Module) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(model.forward).parameters)
