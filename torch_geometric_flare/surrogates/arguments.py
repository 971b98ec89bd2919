"""Arguments of a model's forward: fields of the sample and edges."""

from typing import Any

from torch import nn
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform

from torch_geometric_flare.nn.wrappers import forward_parameters, unwrap
from torch_geometric_flare.transforms import MeshEdges, RadiusEdges


def forward_arguments(model: nn.Module, data: Data) -> dict[str, Any]:
    """Return the fields of `data` that the forward of `model` names.

    As in `torch_geometric.nn.MessagePassing`, the signature is the interface: a model
    of `forward(x, pos, edge_index, edge_attr, batch)` gets these five fields.
    Wrappers such as those of `torch.compile` or peft are removed first, see `unwrap`.
    `batch_size` is the number of graphs. A parameter with a default keeps it if `data`
    has no such field.

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


def supports_weights(model: nn.Module) -> bool:
    """Return whether the forward takes an optional `weight`."""
    weight = forward_parameters(model).get("weight")
    return weight is not None and weight.default is None


def _num_graphs(data: Data) -> int | None:
    """Return the number of graphs: 1 for a sample, `None` for a hand-made batch."""
    return getattr(data, "num_graphs", None if "batch" in data else 1)


class MissingEdges(BaseTransform):
    """Adds edges to samples and batches that have none.

    Args:
        needed: Name of the field that exists if the sample has edges.
        transform: The transform that adds them.
    """

    def __init__(self, needed: str, transform: BaseTransform) -> None:
        self.needed = needed
        self.transform = transform

    def forward(self, data: Data) -> Data:
        """Return the sample with edges; called on a copy."""
        if data.get(self.needed) is not None:
            return data
        with_edges: Data = self.transform(data)
        return with_edges

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.needed!r}, {self.transform})"


def edge_transform(model: nn.Module) -> MissingEdges | None:
    """Return the transform that adds the edges that a model needs.

    A forward that names `edge_index` gets the edges of the mesh, or edges to the
    nearest neighbors if there is no mesh (`transforms.MeshEdges`). A forward that also
    names `edge_weight` always gets all neighbors within `model.radius`, with weights
    (`transforms.RadiusEdges`). Edges that a sample already has are kept.

    Args:
        model: The network.

    Returns:
        The transform; `None` if the forward does not need edges.
    """
    parameters = forward_parameters(model)
    edges = parameters.get("edge_index")
    if edges is None or edges.default is not edges.empty:
        return None
    radius = getattr(unwrap(model), "radius", None)
    if "edge_weight" in parameters and radius is not None:
        return MissingEdges("edge_weight", RadiusEdges(radius))
    return MissingEdges("edge_index", MeshEdges())
