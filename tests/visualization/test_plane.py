import functools
import io

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from torch_geometric_flare.fields import Field
from torch_geometric_flare.visualization import plane, plot_plane_comparison
from torch_geometric_flare.visualization.triangles import triangles_of_cells

STRESS = Field("stress", unit="MPa")


def square(rows=12, columns=17, width=1.0):
    """Points of a grid over [0, width] x [0, 1], row by row."""
    y, x = torch.meshgrid(
        torch.linspace(0, 1, rows), torch.linspace(0, width, columns), indexing="ij"
    )
    return torch.stack((x.flatten(), y.flatten()), dim=1)


def quads(rows=12, columns=17):
    number = torch.arange(rows * columns).view(rows, columns)
    corners = (number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1])
    return torch.stack(corners, dim=-1).view(-1, 4)


def panels(pos, truth, prediction, **options):
    options = {"field": STRESS, "title": "t", **options}
    return plot_plane_comparison(pos, truth, prediction, **options)


@functools.lru_cache(maxsize=1)
def saved(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return np.asarray(Image.open(buffer).convert("RGB")) / 255


def colour_at(figure, panel, x, y):
    """Colour of the saved picture where a panel shows a point of the plane."""
    image = saved(figure)
    column, row = figure.axes[panel].transData.transform((x, y))
    return image[image.shape[0] - 1 - round(row), round(column)]


KINDS = {
    "grid": {"grid": (12, 17)},
    "cells": {"cells": quads()},
    "points": {},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [1.0, 4.0])
def test_colours_are_those_of_the_values(kind, width):
    pos = square(width=width)
    truth = pos[:, 1] * 10
    figure = panels(pos, truth, truth + 5.0, **KINDS[kind])
    low, high = np.percentile(truth, (1, 99))
    for y in (0.22, 0.51, 0.77):
        expected = matplotlib.colormaps["viridis"]((10 * y - low) / (high - low))
        found = colour_at(figure, 0, 0.4 * width, y)
        np.testing.assert_allclose(found, expected[:3], atol=0.08)
    shifted = matplotlib.colormaps["viridis"]((2.2 + 5 - low) / (high - low))
    found = colour_at(figure, 1, 0.4 * width, 0.22)
    np.testing.assert_allclose(found, shifted[:3], atol=0.08)
    # The error is 5 everywhere, the upper end of its own scale.
    found = colour_at(figure, 2, 0.4 * width, 0.5)
    np.testing.assert_allclose(
        found, matplotlib.colormaps["coolwarm"](1.0)[:3], atol=0.08
    )


def test_a_thin_layer_on_few_points_is_drawn_without_teeth(monkeypatch):
    def layer(x, y):
        return np.exp(-(((x + 0.6 * y - 0.8) / 0.05) ** 2))

    pos, corners = square(21, 21), quads(21, 21)
    cells = torch.cat([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]])
    truth = torch.from_numpy(layer(*pos.numpy().T))
    low, high = np.percentile(truth, (1, 99))
    places = np.random.default_rng(0).uniform(0.05, 0.95, (500, 2))
    expected = layer(*places.T).clip(low, high)
    expected = matplotlib.colormaps["viridis"]((expected - low) / (high - low))[:, :3]

    def error():
        figure = panels(pos, truth, truth + 0.1, cells=cells)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=100)
        image = np.asarray(Image.open(buffer).convert("RGB")) / 255
        columns, rows = figure.axes[0].transData.transform(places).round().astype(int).T
        return np.sqrt(np.mean((image[len(image) - 1 - rows, columns] - expected) ** 2))

    smooth = error()
    monkeypatch.setattr(plane, "_FEW_POINTS", 0)
    assert smooth < 0.85 * error()


def test_cubic_values_stay_in_the_range_of_the_points():
    pos, corners = square(6, 6), quads(6, 6)
    triangles = triangles_of_cells(pos.numpy(), corners)
    step = (pos[:, 0] > 0.5).double().numpy()
    finer, values = plane._refine(triangles, step)
    assert len(values) > 300 and values.min() == 0 and values.max() == 1
    x, y = pos.numpy().T
    for number in (0, 14, 15, 35):  # at the points themselves nothing changes
        (place,) = np.flatnonzero((finer.x == x[number]) & (finer.y == y[number]))
        assert values[place] == pytest.approx(step[number], abs=1e-6)


def test_a_curved_grid_is_drawn_where_its_points_are():
    rows, columns = 21, 61
    radius, angle = torch.meshgrid(
        torch.linspace(0.5, 1, rows),
        torch.linspace(0, torch.pi, columns),
        indexing="ij",
    )
    pos = torch.stack((radius * angle.cos(), radius * angle.sin()), dim=-1).view(-1, 2)
    truth = radius.flatten()
    figure = panels(pos, truth, truth, grid=(rows, columns))
    low, high = np.percentile(truth, (1, 99))
    for x, y in ((0.0, 0.75), (0.45, 0.45), (-0.85, 0.05)):
        share = (np.hypot(x, y) - low) / (high - low)
        expected = matplotlib.colormaps["viridis"](share)[:3]
        np.testing.assert_allclose(colour_at(figure, 0, x, y), expected, atol=0.08)
    assert colour_at(figure, 0, 0.0, 0.2).tolist() == [1, 1, 1]  # inside of the arc


def test_wide_domains_stand_one_above_the_other():
    pos = square(width=4.0)
    wide = panels(pos, pos[:, 0], pos[:, 0])
    tops = [axis.get_position().y0 for axis in wide.axes[:3]]
    assert tops[0] > tops[1] > tops[2]
    narrow = panels(square(), square()[:, 0], square()[:, 0])
    lefts = [axis.get_position().x0 for axis in narrow.axes[:3]]
    assert lefts[0] < lefts[1] < lefts[2]
    for axis in (*wide.axes[:3], *narrow.axes[:3]):
        assert axis.get_aspect() == 1.0


def test_texts_limits_and_window():
    pos = square()
    truth = torch.arange(len(pos), dtype=torch.float32)
    figure = panels(pos, truth, truth - 3, window=((0.2, 0.6), (0.1, 0.4)))
    assert figure.get_suptitle() == "t"
    assert figure.axes[0].get_xlim() == (0.2, 0.6)
    assert figure.axes[2].get_ylim() == (0.1, 0.4)
    field, error = figure.axes[-2:]
    assert field.get_xlabel() == "stress [MPa]"
    assert error.get_xlabel() == "error [MPa]"
    assert error.get_xlim() == (-3.0, 3.0)
    assert field.get_xlim() == pytest.approx(tuple(np.percentile(truth, (1, 99))))


def test_of_a_vector_the_length_is_drawn():
    pos = square()
    truth = torch.stack((pos[:, 1] * 3, pos[:, 1] * 4), dim=1)  # length 5 y
    turned = torch.stack((-truth[:, 1], truth[:, 0]), dim=1)
    velocity = Field("velocity", 2, "m/s")
    figure = panels(pos, truth, turned, field=velocity, grid=(12, 17))
    first, second = (colour_at(figure, panel, 0.5, 0.5) for panel in (0, 1))
    np.testing.assert_allclose(first, second, atol=0.01)
    assert figure.axes[-2].get_xlabel() == "|velocity| [m/s]"
    assert figure.axes[-1].get_xlabel() == "|error| [m/s]"
    # Two vectors at a right angle differ by the square root of 2 times their length.
    assert figure.axes[-1].get_xlim() == pytest.approx((0, 5 * 2**0.5), rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_values_that_are_not_finite_are_grey(kind):
    pos = square()
    prediction = pos[:, 0].clone()
    prediction[pos[:, 0] > 0.6] = torch.nan
    prediction[pos[:, 0] > 0.8] = torch.inf
    figure = panels(pos, pos[:, 0], prediction, **KINDS[kind])
    for panel in (1, 2):
        red, green, blue = colour_at(figure, panel, 0.9, 0.5)
        assert red == green == blue == pytest.approx(211 / 255)
    assert len(set(colour_at(figure, 1, 0.3, 0.5))) > 1
    nowhere = panels(pos, pos[:, 0], torch.full((len(pos),), torch.nan), **KINDS[kind])
    assert colour_at(nowhere, 1, 0.3, 0.5).tolist() == [pytest.approx(211 / 255)] * 3


def test_a_single_point_and_a_constant_field():
    pos, five = torch.tensor([[2.0, 3.0]]), torch.tensor([[5.0]])
    figure = panels(pos, five, five)
    assert figure.axes[-2].get_xlim() == pytest.approx((4.95, 5.05))
    middle = matplotlib.colormaps["viridis"](0.5)[:3]
    np.testing.assert_allclose(colour_at(figure, 0, 2.0, 3.0), middle, atol=0.1)


def test_of_many_scattered_points_a_subset_is_drawn():
    pos = torch.rand(5000, 2)
    figure = panels(pos, pos[:, 0] * 7, pos[:, 0] * 7, max_points=400)
    low, high = np.percentile(pos[:, 0] * 7, (1, 99))
    assert figure.axes[-2].get_xlim() == pytest.approx((low, high))
    expected = matplotlib.colormaps["viridis"]((3.5 - low) / (high - low))[:3]
    np.testing.assert_allclose(colour_at(figure, 0, 0.5, 0.5), expected, atol=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pos": torch.rand(204, 3)}, r"pos must have shape \[N, 2\]"),
        ({"truth": torch.rand(5)}, r"truth must have shape \[204, 1\], got \[5\]"),
        ({"truth": torch.full((204,), torch.nan)}, "truth must be finite"),
        ({"grid": (12, 16)}, r"204 points, got \(12, 16\)"),
        ({"grid": (1, 204)}, "at least 2 rows and columns"),
        ({"window": ((1, 0), (0, 1))}, "window must be"),
        ({"max_points": 0}, "max_points must be positive"),
        ({"field": Field("u", 2)}, r"truth must have shape \[204, 2\]"),
    ],
)
def test_errors(change, message):
    pos = square()
    arguments = {"pos": pos, "truth": pos[:, 0], "prediction": pos[:, 0], **change}
    with pytest.raises(ValueError, match=message):
        panels(**arguments)


@pytest.mark.parametrize("size", [7.5e-4, 7.5, 7.5e6])
def test_numbers_at_a_colour_bar_do_not_overlap(size):
    pos = square()
    truth = size * pos[:, 1]
    figure = panels(pos, truth, truth + size * torch.linspace(-1, 1, len(pos)))
    figure.savefig(io.BytesIO(), format="png")
    labels = [label for label in figure.axes[-1].get_xticklabels() if label.get_text()]
    boxes = sorted((label.get_window_extent() for label in labels), key=lambda b: b.x0)
    assert len(boxes) >= 3
    assert all(a.x1 < b.x0 for a, b in zip(boxes, boxes[1:], strict=False))


def test_a_body_in_the_plane():
    pos = square()
    field = pos[:, :1] + 1
    body = torch.tensor([[0.3, 0.3], [0.7, 0.3], [0.7, 0.6], [0.3, 0.6]])
    figure = panels(pos, field, field, grid=(12, 17), body=body, axes_names=("x", "z"))
    grey = [105 / 255] * 3
    for panel in range(3):
        np.testing.assert_allclose(colour_at(figure, panel, 0.5, 0.45), grey, atol=0.01)
        assert not np.allclose(colour_at(figure, panel, 0.5, 0.8), grey, atol=0.05)
    assert figure.axes[0].get_ylabel() == "z" and figure.axes[0].get_xlabel() == "x"
    with pytest.raises(ValueError, match="body"):
        panels(pos, field, field, grid=(12, 17), body=torch.rand(4, 3))
