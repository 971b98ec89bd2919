"""Collecting what a model's forward asks for."""

from typing import Any

from torch import nn
from torch_geometric.data import Data

from torch_geometric_flare.nn.wrappers import forward_parameters, unwrap


def forward_arguments(model: nn.Module, data: Data) -> dict[str, Any]:
    """Return the fields of `data` that the forward of `model` names.

    As in `torch_geometric.nn.MessagePassing`, the signature is the interface: a model
    of `forward(x, pos, edge_index, edge_attr, batch)` gets these five fields.
    Wrappers such as those of `torch.compile` or peft are looked through, see `unwrap`.
    `batch_size` stands for the number of graphs. A parameter with a default keeps it
    where `data` has no such field.

    Args:
        model: The network.
        data: One sample, or a batch of samples.

    Returns:
        The keyword arguments of the call.

    Raises:
        ValueError: If `data` lacks a field that has no default.
    """
    arguments: dict[str, Any] = {}
    for name, parameter in forward_parameters(model).items():
        value = _num_graphs(data) if name == "batch_size" else data.get(name)
        if value is not None:
            arguments[name] = value
        elif parameter.default is parameter.empty:
            network = type(unwrap(model)).__name__
            raise ValueError(
                f"{network}.forward needs the field {name!r}, but the data holds only "
                f"{sorted(data.keys())}: add it in the dataset or by a transform"
            )
    return arguments


def _num_graphs(data: Data) -> int | None:
    """Count the graphs: one for a sample, `None` for a batch made by hand."""
    return getattr(data, "num_graphs", None if "batch" in data else 1)
