"""Hyperparameters of MeshGraphNets.

The model is from Pfaff et al., Learning Mesh-Based Simulation with Graph Networks,
[arXiv:2010.03409](https://arxiv.org/abs/2010.03409), appendix: 15 message-passing
steps, width 128, two hidden layers with ReLU. That paper trains on time steps. The
training on steady fields is not from that paper but follows the FLARE paper on the same
data set.
"""

from dataclasses import replace

from torch_geometric_flare.nn import MeshGraphNet
from torch_geometric_flare.recipes.flare import (
    FLARE_AIRFOIL_QUICK,
    FLARE_DARCY_QUICK,
    FLARE_DRIVAERML_QUICK,
    FLARE_ELASTICITY_QUICK,
    FLARE_LPBF_QUICK,
    FLARE_PIPE_QUICK,
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
"""Darcy flow: neighbors on a grid of 85 × 85 on the unit square."""

MESH_GRAPH_NET_ELASTICITY = replace(
    MESH_GRAPH_NET_DARCY,
    model=_mesh_graph_net(edge_channels=3, length_scale=0.03),
    derivative_weight=0.0,
)
"""Elasticity: nearest neighbors among 972 points of a unit square with a hole."""

MESH_GRAPH_NET_AIRFOIL = replace(
    MESH_GRAPH_NET_ELASTICITY,
    model=_mesh_graph_net(edge_channels=3, length_scale=0.1),
)
"""Airfoil: neighbors on a C-grid of 221 × 51.

Edge lengths range from a hundredth of the chord to five chords. The scale of a tenth is
about the median along the wall.
"""

MESH_GRAPH_NET_PIPE = replace(
    MESH_GRAPH_NET_ELASTICITY,
    model=_mesh_graph_net(edge_channels=3, length_scale=0.05),
)
"""Pipe flow: neighbors on a grid of 129 × 129, 0.08 along the pipe, 0.008 across."""

MESH_GRAPH_NET_DRIVAERML = replace(
    MESH_GRAPH_NET_LPBF,
    model=_mesh_graph_net(edge_channels=4, length_scale=0.025),
    epochs=500,
)
"""DrivAerML: nearest neighbors among 40,000 points of a car, lengths in meters."""


# Use whole meshes, because random points of a mesh are not a mesh.
def _quick(recipe: Recipe, flare: Recipe) -> Recipe:
    small = {"hidden_channels": 32, "num_layers": 6, "mlp_layers": 1}
    model = {**recipe.model, **small}
    return replace(flare, model_class=MeshGraphNet, model=model, num_points=None)


MESH_GRAPH_NET_LPBF_QUICK = _quick(MESH_GRAPH_NET_LPBF, FLARE_LPBF_QUICK)
"""An unpublished quick recipe for printed parts, on whole meshes."""

MESH_GRAPH_NET_DARCY_QUICK = _quick(MESH_GRAPH_NET_DARCY, FLARE_DARCY_QUICK)
"""An unpublished quick recipe for Darcy flow on a coarse grid."""

MESH_GRAPH_NET_ELASTICITY_QUICK = _quick(
    MESH_GRAPH_NET_ELASTICITY, FLARE_ELASTICITY_QUICK
)
"""An unpublished quick recipe for elasticity."""

MESH_GRAPH_NET_AIRFOIL_QUICK = _quick(MESH_GRAPH_NET_AIRFOIL, FLARE_AIRFOIL_QUICK)
"""An unpublished quick recipe for the airfoil, on whole grids."""

MESH_GRAPH_NET_PIPE_QUICK = _quick(MESH_GRAPH_NET_PIPE, FLARE_PIPE_QUICK)
"""An unpublished quick recipe for the pipe, on whole grids."""

MESH_GRAPH_NET_DRIVAERML_QUICK = _quick(
    replace(
        MESH_GRAPH_NET_DRIVAERML,
        model=_mesh_graph_net(edge_channels=4, length_scale=0.05),
    ),
    FLARE_DRIVAERML_QUICK,
)
"""An unpublished quick recipe for cars, on all of 10,000 points."""
