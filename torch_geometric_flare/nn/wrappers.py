"""The network inside modules that pass every argument on."""

import inspect

from torch import nn

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def unwrap(model: nn.Module) -> nn.Module:
    """Return the network inside wrappers, whose forward names what it takes.

    A wrapper is a module with one child and `forward(*args, **kwargs)`, as of
    `torch.compile`, `torch.optim.swa_utils.AveragedModel`, `DistributedDataParallel`,
    `checkpoint_wrapper`, or a model of peft.

    Args:
        model: The network, in any number of wrappers.
    """
    while _takes_anything(model):
        children = list(model.children())
        if len(children) != 1:
            break
        (model,) = children
    return model


def forward_parameters(model: nn.Module) -> dict[str, inspect.Parameter]:
    """Return the parameters that the forward of the network inside wrappers names."""
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
