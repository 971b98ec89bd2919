from functools import partial

import numpy as np
import pytest
import torch

import torch_geometric_flare.experiments  # noqa: F401, before tests patch it
from tests.examples.loading import load_example
from tests.examples.predicting import LOWER, UPPER, save_checkpoint
from torch_geometric_flare.fields import Field
from torch_geometric_flare.nn import FLARE
from torch_geometric_flare.simulation import Notchback
from torch_geometric_flare.surrogates import Surrogate, save_surrogate
from torch_geometric_flare.transforms import Normalizer


@pytest.fixture
def checkpoint(tmp_path):
    """An untrained surrogate of the pressure on simulated cars."""
    surrogate = Surrogate(
        FLARE(3, 8, 1, num_layers=1, heads=2, num_latents=4),
        Normalizer([-230.0], [270.0]),
        Normalizer.from_bounds(*Notchback.coordinate_bounds),
        fields=[Field("pressure", unit="m²/s²")],
        location="cell",
        weighted=True,
    )
    save_surrogate(surrogate, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


@pytest.fixture
def load_here(monkeypatch, tmp_path):
    """Load an example that writes to a temporary folder and starts no process."""
    monkeypatch.chdir(tmp_path)
    return partial(load_example, monkeypatch=monkeypatch)


@pytest.fixture
def car_checkpoint(tmp_path):
    """A surrogate of the pressure on cars: its file, and what it predicts."""
    path = tmp_path / "simulated_cars" / "last.ckpt"
    model = save_checkpoint(path)

    @torch.no_grad()
    def expected(points):
        lower, upper = torch.tensor(LOWER), torch.tensor(UPPER)
        x = (torch.tensor(np.array(points)).float() - lower) / (upper - lower)
        return (model.eval()(x) * 270.0 - 230.0).squeeze(1).numpy()

    return path, expected
