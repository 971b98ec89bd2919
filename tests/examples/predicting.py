"""A mesh to predict on, and checkpoints that predict."""

import pyvista as pv
import torch

import torch_geometric_flare.nn.models
from tests.examples.loading import load_example
from torch_geometric_flare.fields import Field
from torch_geometric_flare.nn import FLARE
from torch_geometric_flare.surrogates import Surrogate, save_surrogate
from torch_geometric_flare.transforms import Normalizer

LOWER, UPPER = (-1.0, -1.1, -0.3), (4.0, 1.1, 1.2)
PRESSURE = (Field("pressure", unit="m²/s²"),)


def main(arguments):
    return load_example("predict").main(arguments)


def save_checkpoint(path, in_channels=3, coordinates=True, fields=PRESSURE):
    torch.manual_seed(3)
    surrogate = Surrogate(
        FLARE(in_channels, 16, 1, num_layers=1, heads=2, num_latents=4),
        Normalizer([-230.0], [270.0]),
        Normalizer.from_bounds(LOWER, UPPER) if coordinates else None,
        fields=fields,
    )
    path.parent.mkdir(exist_ok=True)
    save_surrogate(surrogate, path)
    return surrogate.model


def register(monkeypatch, kind):
    """Add a class to those that a checkpoint may name."""
    models = "torch_geometric_flare.nn.models"
    monkeypatch.setattr(f"{models}.{kind.__name__}", kind, raising=False)
    names = torch_geometric_flare.nn.models.__all__
    monkeypatch.setattr(f"{models}.__all__", [*names, kind.__name__])


def body(scale=1.0):
    """An ellipsoid in the place of a car."""
    mesh = pv.ParametricEllipsoid(2.4, 0.9, 0.7, u_res=12, v_res=10, w_res=2)
    mesh = mesh.triangulate().clean()
    mesh.clear_data()
    return mesh.translate((1.5, 0.0, 0.4)).scale(scale)


def save(mesh, path):
    if path.suffix == ".vtu":
        mesh = mesh.cast_to_unstructured_grid()
    mesh.save(path)
    return path
