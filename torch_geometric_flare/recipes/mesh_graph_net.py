"""Hyperparameters of MeshGraphNets.

The model is that of Pfaff et al., Learning Mesh-Based Simulation with Graph Networks,
[arXiv:2010.03409](https://arxiv.org/abs/2010.03409), appendix: 15 message-passing
steps, width 128, two hidden layers with ReLU. That paper trains on time steps, so how
to train on steady fields is ours: as the FLARE paper trains FLARE on the same set.
"""

from dataclasses import replace

from torch_geometric_flare.nn import MeshGraphNet
from torch_geometric_flare.recipes.flare import (
    FLARE_DARCY_QUICK,
    FLARE_ELASTICITY_QUICK,
    FLARE_LPBF_QUICK,
)
from torch_geometric_flare.recipes.recipe import Recipe

_Arguments = dict[str, int | float | str | bool]


def _mesh_graph_net(edge_channels: int, length_scale: float) -> _Arguments:
    return {
        "hidden_channels": 128,
        "num_layers": 15,
        "mlp_layers": 2,
        "edge_channels": edge_channels,
        "length_scale": length_scale,
    }


MESH_GRAPH_NET_LPBF = Recipe(
    model_class=MeshGraphNet,
    model=_mesh_graph_net(edge_channels=4, length_scale=1.0),
    epochs=250,
    batch_size=1,
    weight_decay=1e-4,
)
"""Laser powder bed fusion: edges of a hexahedral mesh, lengths in mm."""

MESH_GRAPH_NET_DARCY = replace(
    MESH_GRAPH_NET_LPBF,
    model=_mesh_graph_net(edge_channels=3, length_scale=1 / 84),
    epochs=500,
    batch_size=2,
    weight_decay=1e-5,
    derivative_weight=0.1,
)
"""Darcy flow: neighbours on a grid of 85 × 85 on the unit square."""

MESH_GRAPH_NET_ELASTICITY = replace(
    MESH_GRAPH_NET_DARCY,
    model=_mesh_graph_net(edge_channels=3, length_scale=0.03),
    derivative_weight=0.0,
)
"""Elasticity: nearest neighbours among 972 points of a unit square with a hole."""


def _quick(recipe: Recipe, flare: Recipe) -> Recipe:
    small = {"hidden_channels": 32, "num_layers": 6, "mlp_layers": 1}
    return replace(flare, model_class=MeshGraphNet, model={**recipe.model, **small})


MESH_GRAPH_NET_LPBF_QUICK = _quick(MESH_GRAPH_NET_LPBF, FLARE_LPBF_QUICK)
"""A quick recipe of ours for printed parts, on whole meshes."""

MESH_GRAPH_NET_DARCY_QUICK = _quick(MESH_GRAPH_NET_DARCY, FLARE_DARCY_QUICK)
"""A quick recipe of ours for Darcy flow on a coarse grid."""

MESH_GRAPH_NET_ELASTICITY_QUICK = _quick(
    MESH_GRAPH_NET_ELASTICITY, FLARE_ELASTICITY_QUICK
)
"""A quick recipe of ours for elasticity."""
