"""Data on the CPU stays there, whatever torch's default device."""

import numpy as np
import pytest
import pyvista as pv
import torch
from torch_geometric.data import Data

from torch_geometric_flare import FLAREConv
from torch_geometric_flare.datasets import MeanSample
from torch_geometric_flare.metrics import mesh_forces
from torch_geometric_flare.nn import grow_latents
from torch_geometric_flare.transforms import KNNEdges, RadiusEdges


@pytest.fixture
def elsewhere():
    """A default device on which nothing has values."""
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


POS = torch.rand(40, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("transform", [RadiusEdges(0.4, 3), KNNEdges(3)])
def test_edges(transform, elsewhere):
    edges = transform(Data(pos=POS)).edge_index
    assert edges.device == POS.device


def test_forces(elsewhere):
    body = pv.Cube().triangulate().clean()
    body.clear_data()
    body.point_data["pressure"] = -body.points[:, 2].astype(np.float64)
    forces = mesh_forces(body, speed=1.0, reference_area=2.0)
    assert forces["lift"] == pytest.approx(1)


def test_baseline(elsewhere):
    samples = [Data(pos=POS, y=POS[:, :1]), Data(pos=POS[:9], y=POS[:9, :1])]
    assert MeanSample(samples).predict(samples[1]).device == POS.device


def test_noise_of_grown_latents():
    conv = FLAREConv(8, heads=2, num_latents=4)
    torch.set_default_device("meta")
    try:
        grown = grow_latents(conv, 2, noise=0.1)
    finally:
        torch.set_default_device(None)
    assert grown.latents.device == conv.latents.device
