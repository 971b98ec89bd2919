import pickle

import pytest
import torch
from huggingface_hub import constants
from torch_geometric.loader import DataLoader

from tests.datasets.simulators import Noise


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No test reaches the hub."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def check_workers():
    """Samples are the same in worker processes, and no memory map is pickled."""

    def check(dataset):
        samples = list(dataset)  # opens the files
        content = pickle.dumps(dataset)
        assert len(content) < 10**5
        loaded = list(pickle.loads(content))
        worked = list(DataLoader(dataset, batch_size=1, num_workers=1))
        assert len(samples) == len(loaded) == len(worked) > 0
        for one, two, three in zip(samples, loaded, worked, strict=True):
            for key in ("x", "pos", "y"):
                assert torch.equal(one[key], two[key])
                assert torch.equal(one[key], three[key])

    return check


@pytest.fixture
def noise(tmp_path):
    return Noise(str(tmp_path / "log"))
