"""Data on the CPU stays there, whatever torch's default device."""

from contextlib import contextmanager

import numpy as np
import pytest
import pyvista as pv
import torch
from torch_geometric.data import Data

from torch_geometric_flare import FLARE, FLAREConv
from torch_geometric_flare.datasets import MeanSample
from torch_geometric_flare.metrics import mesh_forces
from torch_geometric_flare.nn import grow_latents
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.surrogates import load_surrogate, save_surrogate
from torch_geometric_flare.training import SurrogateDataModule, SurrogateModule, fit
from torch_geometric_flare.transforms import KNNEdges, Normalizer, RadiusEdges


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


def make_module():
    torch.manual_seed(0)
    model = FLARE(3, 8, 1, num_layers=1, heads=2, num_latents=4)
    recipe = Recipe(model_class=FLARE, epochs=1, batch_size=2)
    bounds = Normalizer.from_bounds([0.0] * 3, [1.0] * 3)
    return SurrogateModule(model, Normalizer([0.5], [0.3]), bounds, recipe)


def train(module, folder):
    samples = [Data(pos=POS[i:], y=POS[i:, :1]) for i in range(6)]
    data = SurrogateDataModule(samples, val=samples[:1], batch_size=2)
    surrogate = fit(module, data, folder, accelerator="cpu", progress=False)
    surrogate.fit_guard(samples)
    save_surrogate(surrogate, folder / "saved.ckpt")
    return load_surrogate(folder / "saved.ckpt")


@contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@pytest.mark.parametrize(
    "context", [lambda: default_device("meta"), torch.inference_mode, torch.no_grad]
)
def test_training_and_files(tmp_path, context):
    expected = train(make_module(), tmp_path / "here").predict(POS)
    module = make_module()
    with context():
        found = train(module, tmp_path / "there")
    assert torch.equal(found.predict(POS), expected)
    assert found.judge(POS).label == "inside"
