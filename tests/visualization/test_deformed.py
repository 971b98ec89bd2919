import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_flare.fields import Field
from torch_geometric_flare.visualization import (
    deformed,
    plot_deformed_comparison,
    rendering,
)

HEIGHT = Field("displacement_z", 1, "mm")
VECTOR = Field("displacement", 3, "mm")


@pytest.fixture(autouse=True)
def small_window(monkeypatch):
    monkeypatch.setattr(rendering, "_WINDOW", (200, 150))


def block(n=3):
    """A cube of side n of unit hexahedra, in VTK's order."""
    grid = torch.stack(torch.meshgrid(*[torch.arange(n + 1)] * 3, indexing="ij"), -1)
    pos = grid.reshape(-1, 3).float()
    first = (grid[:n, :n, :n] @ torch.tensor([(n + 1) ** 2, n + 1, 1])).reshape(-1)
    step = torch.tensor([0, (n + 1) ** 2, (n + 1) ** 2 + n + 1, n + 1])
    offsets = torch.cat([step, step + 1])
    return Data(pos=pos, cells=first[:, None] + offsets)


def shapes(monkeypatch, data, prediction, field, **arguments):
    """The points of the three bodies that are drawn, and the figure."""
    drawn = []
    original = deformed._surface

    def surface(points, cells):
        drawn.append(points)
        return original(points, cells)

    monkeypatch.setattr(deformed, "_surface", surface)
    figure = plot_deformed_comparison(
        data, prediction, field, title="simulated part", **arguments
    )
    return drawn, figure


def test_bodies_move_by_what_they_show(monkeypatch):
    data = block()
    data.y = 1e-3 * data.pos[:, 2:]  # up to 3e-3 of a cube with a diagonal of 5.2
    drawn, figure = shapes(monkeypatch, data, 2 * data.y, HEIGHT)
    assert figure.get_suptitle() == "simulated part; deformation × 100"
    pos = data.pos.numpy()
    for points, stretch in zip(drawn, (1.1, 1.2, 1.1), strict=True):
        np.testing.assert_allclose(points, pos * (1, 1, stretch), rtol=1e-5)
    assert [axis.get_title() for axis in figure.axes[:3]] == [
        "truth",
        "prediction",
        "error (prediction − truth)",
    ]
    images = [np.asarray(axis.images[0].get_array()) for axis in figure.axes[:3]]
    assert len({image.shape for image in images}) == 1
    assert all((image < 250).any() for image in images)
    assert not np.array_equal(images[0], images[1])


def test_the_scale_is_round_where_its_logarithm_is_rounded_up():
    pos = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    wanted = float(np.nextafter(1e-3, 0.0))  # the logarithm of which is -3
    moved = pos * (deformed._VISIBLE / wanted)
    factor = deformed._round_factor(moved, pos)
    assert factor == pytest.approx(5e-4) or factor == pytest.approx(1e-3)


def test_vectors_move_along_themselves(monkeypatch):
    data = block()
    move = torch.tensor([[0.01, -0.02, 0.03]]).expand(len(data.pos), 3)
    data.y = move
    drawn, figure = shapes(monkeypatch, data, 0.5 * move, VECTOR)
    factor = float(figure.get_suptitle().rpartition(" ")[2])
    wanted = [factor * scale * move[0].numpy() for scale in (1, 0.5, 1)]
    for points, moved in zip(drawn, wanted, strict=True):
        np.testing.assert_allclose(points - data.pos.numpy(), [moved] * 64, atol=1e-5)


@pytest.mark.parametrize("field", [Field("stress"), Field("z"), Field("heat_flux")])
def test_other_fields_move_nothing(monkeypatch, field):
    data = block()
    data.y = data.pos[:, :1] + 1
    drawn, figure = shapes(monkeypatch, data, data.y, field)
    assert all(np.array_equal(points, data.pos.numpy()) for points in drawn)
    assert figure.get_suptitle() == "simulated part"


def test_the_inside_is_not_drawn():
    data = block()
    surface = deformed._surface(data.pos.numpy(), data.cells)
    assert surface.n_points == 64 - 8 and surface.n_cells == 6 * 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cells": None}, "data has no cells"),
        (
            {"cells": torch.zeros(2, 6, dtype=torch.long)},
            r"expected tetrahedra \[E, 4\]",
        ),
        ({"pos": torch.zeros(5, 2)}, "pos must have shape"),
        ({"y": None}, "data needs pos and y"),
    ],
)
def test_errors(change, message):
    data = block()
    data.y = data.pos[:, :1]
    prediction = data.y
    for name, value in change.items():
        data[name] = value
    with pytest.raises(ValueError, match=message):
        plot_deformed_comparison(data, prediction, HEIGHT, title="t")


def test_a_prediction_must_be_finite_to_move_by_it():
    data = block()
    data.y = data.pos[:, :1]
    prediction = data.y.clone()
    prediction[3] = torch.nan
    with pytest.raises(ValueError, match="prediction must be finite"):
        plot_deformed_comparison(data, prediction, HEIGHT, title="t")
