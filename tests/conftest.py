import sys
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _read_meshes_here(request, monkeypatch):
    """Starting a process for each mesh takes most of the time of reading it."""
    if (
        request.node.get_closest_marker("mesh_process")
        or "torch_geometric_flare.mesh_io.read" not in sys.modules
    ):
        return
    from torch_geometric_flare.mesh_io import read, reader_process

    def read_here(path, folder, megabytes, part):
        block, time = part
        try:
            mesh = reader_process.read(
                path.absolute(),
                Path(folder),
                block or None,
                float(time) if time else None,
            )
            reader_process.check(mesh)
            reader_process.write(mesh, folder)
        except reader_process.Refused as reason:
            return str(reason)
        return ""

    monkeypatch.setattr(read, "_read_elsewhere", read_here)


@pytest.fixture(autouse=True)
def _simulate_here(monkeypatch):
    """Simulate in this process, and predict for a moment to measure the time."""
    for name, attribute, value in (
        ("datasets.simulated", "_num_cores", lambda: 0),
        ("experiments.timing", "_PREDICTION_SECONDS", 0.01),
    ):
        if module := sys.modules.get(f"torch_geometric_flare.{name}"):
            monkeypatch.setattr(module, attribute, value)


@pytest.fixture
def without_pictures(monkeypatch):
    """Drawing takes more than half of the time of a small run."""
    run = "torch_geometric_flare.experiments.run"
    monkeypatch.setattr(f"{run}.plot_sample", lambda *_: None)
    monkeypatch.setattr(f"{run}.plot_history", lambda *_: None)


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("cuda") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))
