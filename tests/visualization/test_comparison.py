import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_flare.fields import Field
from torch_geometric_flare.visualization import comparison, plot_comparison

PRESSURE = Field("pressure", unit="Pa")


@pytest.fixture
def drawn(monkeypatch):
    """What is asked of the two kinds of pictures."""
    calls = []
    for name in ("plot_plane_comparison", "plot_surface_comparison"):

        def record(*arguments, name=name, **options):
            calls.append((name, arguments, options))

        monkeypatch.setattr(comparison, name, record)
    return calls


@pytest.mark.parametrize(
    "grid", [(3, 2), [3, 2], torch.tensor([3, 2]), torch.Size((3, 2))]
)
def test_points_of_the_plane(drawn, grid):
    y = torch.rand(6, 1)
    data = Data(pos=torch.rand(6, 2), y=y, grid=grid)
    window = ((0, 1), (0, 1))
    plot_comparison(data, y + 1, PRESSURE, title="simulated", window=window)
    ((name, arguments, options),) = drawn
    assert name == "plot_plane_comparison"
    assert arguments[1] is y and arguments[3] is PRESSURE
    assert options["grid"] == (3, 2) and options["cells"] is None
    assert options["window"] == window and options["title"] == "simulated"


def test_points_of_space(drawn):
    pos, truth = torch.rand(6, 3), torch.rand(6, 1)
    shape = {"normal": torch.rand(6, 3), "area": torch.rand(6, 1)}
    for given, expected in ((shape, shape), ({"normal": shape["normal"]}, {})):
        data = Data(pos=pos, y=torch.rand(6, 4), **given)
        plot_comparison(data, truth, PRESSURE, title="t", truth=truth)
        name, arguments, options = drawn.pop()
        assert name == "plot_surface_comparison"
        assert arguments[1] is truth
        for key in shape:
            assert options[key] is expected.get(key)


def test_faces_of_space_are_painted(drawn):
    cells = torch.tensor([[0, 1, 2, 3]])
    y = torch.rand(4, 1)
    shape = {"pos": torch.rand(4, 3), "y": y, "cells": cells}
    plot_comparison(Data(**shape), y, PRESSURE, title="t", flow=(1.0, 0.0, 0.0))
    plot_comparison(Data(**shape, normal=torch.rand(4, 3)), y, PRESSURE, title="t")
    solid, surface = (options for _, _, options in drawn)
    # Without normals these may be tetrahedra.
    assert solid["cells"] is None and surface["cells"] is cells
    assert solid["flow"] == (1.0, 0.0, 0.0) and surface["flow"] is None


def test_a_whole_picture():
    data = Data(pos=torch.rand(40, 2), y=torch.rand(40, 1))
    figure = plot_comparison(data, data.y, PRESSURE, title="simulated plate")
    assert figure.get_suptitle() == "simulated plate"
    assert figure.axes[-2].get_xlabel() == "pressure [Pa]"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Data(), "pos must have shape"),
        (
            Data(
                pos=torch.rand(3, 3),
                y=torch.rand(3, 1),
                normal=torch.rand(3, 3),
                cells=torch.tensor([[0, 1, 3]]),
            ),
            "from 0 to 2",
        ),
        (Data(pos=torch.rand(3, 4)), r"or \[N, 3\], got \[3, 4\]"),
        (Data(pos=torch.rand(3, 2)), "data has no y: pass truth"),
        (
            Data(pos=torch.rand(3, 2), y=torch.rand(3, 1), grid=(1, 1, 3)),
            "grid must hold rows and columns",
        ),
    ],
)
def test_errors(data, message):
    with pytest.raises(ValueError, match=message):
        plot_comparison(data, torch.rand(3, 1), PRESSURE, title="t")
