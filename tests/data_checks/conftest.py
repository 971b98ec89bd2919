import numpy as np
import pytest
import pyvista as pv

from torch_geometric_flare.simulation import Notchback

CARS = Notchback(panels_along=16, panels_around=6)


def make_car(seed):
    found = CARS.surface(np.random.default_rng(seed))
    faces = []
    for cell in found["cells"]:
        corners = dict.fromkeys(cell.tolist())
        faces += [len(corners), *corners]
    car = pv.PolyData(found["points"], faces=faces)
    car.cell_data["pressure"] = found["pressure"][:, 0]
    car.field_data["speed"] = np.array([CARS.speed])
    return car


MADE = {f"car_{seed:02}.vtp": make_car(seed) for seed in range(14)}


@pytest.fixture
def cars(monkeypatch):
    """Simulated cars by name, as files would hold them; a test changes some."""
    meshes = {name: car.copy() for name, car in MADE.items()}
    monkeypatch.setattr(
        "torch_geometric_flare.mesh_io.read_mesh",
        lambda path, **_: meshes[path.name].copy(),
    )
    return meshes
