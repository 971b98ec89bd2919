import io

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import pyvista as pv
import torch

from torch_geometric_flare.fields import Field
from torch_geometric_flare.visualization import plot_surface_comparison, rendering

PRESSURE = Field("kinematic_pressure", unit="m²/s²")


@pytest.fixture(autouse=True)
def small_window(monkeypatch):
    monkeypatch.setattr(rendering, "_WINDOW", (300, 220))


def sphere(n, seed=0):
    """Random points on the unit sphere: where it looks closed, discs do their work."""
    generator = torch.Generator().manual_seed(seed)
    pos = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator))
    return {"pos": pos, "normal": pos, "area": torch.full((n,), 4 * torch.pi / n)}


def plate(x, normal_x):
    """A square of side 1 in the plane `x`, 20 by 20 points."""
    ticks = (torch.arange(20) + 0.5) / 20
    y, z = torch.meshgrid(ticks, ticks, indexing="ij")
    pos = torch.stack((torch.full((400,), x), y.flatten(), z.flatten()), dim=1)
    normal = torch.tensor((normal_x, 0.0, 0.0)).expand(400, 3)
    return {"pos": pos, "normal": normal, "area": torch.full((400, 1), 1 / 400)}


def pictures(figure):
    return [np.asarray(a.images[0].get_array()) for a in figure.axes if a.images]


def panels(**arguments):
    arguments = {
        "field": PRESSURE,
        "title": "t",
        "views": [(-1.0, 0.0, 0.0)],
        **arguments,
    }
    return plot_surface_comparison(**arguments)


def share_of_holes(image):
    """Share of white pixels between the outermost drawn pixels of each line."""
    drawn = (image < 250).any(axis=2)
    inside = np.logical_or.accumulate(drawn, 1)
    inside &= np.logical_or.accumulate(drawn[:, ::-1], 1)[:, ::-1]
    return (inside & ~drawn).sum() / inside.sum()


def test_colours_are_those_of_the_colour_bars():
    surface = plate(0.0, -1.0)
    truth = surface["pos"][:, 2]  # from 0.025 below to 0.975 above
    figure = panels(truth=truth, prediction=truth + 0.5, **surface)
    true, predicted, error = pictures(figure)
    viridis, coolwarm = (
        matplotlib.colormaps["viridis"],
        matplotlib.colormaps["coolwarm"],
    )
    height, width = true.shape[:2]
    for z in (0.225, 0.525, 0.725):  # rows of points
        row, column = round((1 - z) * (height - 21)) + 10, width // 2
        share = (z - 0.025) / 0.95
        np.testing.assert_allclose(
            true[row, column] / 255, viridis(share)[:3], atol=0.08
        )
        np.testing.assert_allclose(
            predicted[row, column] / 255, viridis(share + 0.5 / 0.95)[:3], atol=0.08
        )
        # The error is 0.5 everywhere, the upper end of its own scale.
        np.testing.assert_allclose(
            error[row, column] / 255, coolwarm(1.0)[:3], atol=0.08
        )


def test_a_known_surface_is_painted():
    """Two quads of one colour each, and nothing between their four corners missing."""
    pos = torch.tensor(
        [[0.0, y, z] for z in (0.0, 1.0) for y in (0.0, 1.0)]
        + [[0.0, y, z] for z in (1.0, 2.0) for y in (0.0, 1.0)]
    )
    cells = torch.tensor([[0, 1, 3, 2], [4, 5, 7, 6]])
    truth = torch.tensor([0.0] * 4 + [1.0] * 4)
    true, *_ = pictures(panels(pos=pos, truth=truth, prediction=truth, cells=cells))
    height, width = true.shape[:2]
    viridis = matplotlib.colormaps["viridis"]
    for share, value in ((0.2, 1.0), (0.45, 1.0), (0.55, 0.0), (0.8, 0.0)):
        found = true[round(share * (height - 21)) + 10, width // 2] / 255
        np.testing.assert_allclose(found, viridis(value)[:3], atol=0.08)
    assert share_of_holes(true[10:-10]) == 0


@pytest.mark.parametrize("flow", [(2.0, 0.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0)])
def test_an_arrow_points_along_the_flow(flow, monkeypatch):
    made = []
    arrow = pv.Arrow
    monkeypatch.setattr(
        pv, "Arrow", lambda **options: made.append(arrow(**options)) or made[-1]
    )
    surface = sphere(300)
    truth = surface["pos"][:, 2]
    arguments = {"truth": truth, "prediction": truth, "views": [(0.0, -1.0, 0.0)]}
    plain, *_ = pictures(panels(**arguments, **surface))
    assert made == []
    picture, *_ = pictures(panels(**arguments, **surface, flow=flow))
    assert picture.shape != plain.shape
    body = made[0]
    axis = int(np.argmax(np.abs(flow)))
    length = np.ptp(body.points, axis=0)
    assert length[axis] > 4 * np.sort(length)[1]
    # The head is wide and lies downstream, and all of it beside the ball.
    other = 1 if axis == 2 else 2
    width = body.points[:, other] - np.median(body.points[:, other])
    head = body.points[np.argmax(width), axis]
    assert np.sign(head - body.center[axis]) == np.sign(flow[axis])
    assert body.points[:, other].min() > surface["pos"][:, other].max()


def test_colour_ranges_are_robust_shared_and_symmetric():
    surface = sphere(1001)
    truth = torch.arange(1001.0)
    prediction = truth.clone()
    prediction[:100] -= 2.0
    prediction[100] += 1e6
    figure = panels(truth=truth, prediction=prediction, **surface)
    field, error = figure.axes[-2:]
    assert field.get_xlim() == pytest.approx((10.0, 990.0))
    assert error.get_xlim() == pytest.approx((-2.0, 2.0))
    assert field.get_xlabel() == "kinematic pressure [m²/s²]"
    assert error.get_xlabel() == "error [m²/s²]"
    assert [a.get_title() for a in figure.axes[:3]] == [
        "truth",
        "prediction",
        "error (prediction − truth)",
    ]


def test_exact_prediction_gives_equal_panels_and_a_neutral_error():
    surface = sphere(500)
    truth = surface["pos"][:, 0]
    true, predicted, error = pictures(panels(truth=truth, prediction=truth, **surface))
    assert (true == predicted).all()
    neutral = np.array(matplotlib.colormaps["coolwarm"](0.5)[:3])
    colour = error[error.shape[0] // 2, error.shape[1] // 2] / 255
    np.testing.assert_allclose(colour, neutral, atol=0.06)


def test_the_camera_sees_the_near_side_only():
    near, far = plate(0.0, -1.0), plate(1.0, 1.0)
    surface = {name: torch.cat((near[name], far[name])) for name in near}
    value = torch.cat((torch.ones(400), torch.zeros(400)))
    figure = panels(
        truth=value, prediction=value, views=[(-1, 0, 0), (1, 0, 0)], **surface
    )
    assert len(figure.axes) == 2 * 3 + 2
    images = pictures(figure)
    for image, expected in ((images[0], 1.0), (images[3], 0.0)):
        colour = image[image.shape[0] // 2, image.shape[1] // 2] / 255
        expected_colour = matplotlib.colormaps["viridis"](expected)[:3]
        np.testing.assert_allclose(colour, expected_colour, atol=0.08)


@pytest.mark.parametrize("max_points", [10_000, 1000])
def test_a_random_surface_looks_closed(max_points, monkeypatch):
    drawn = []
    original = rendering.cone_glyphs

    def spy(points, normals, area):
        drawn.append((len(points), float(area.sum())))
        return original(points, normals, area)

    monkeypatch.setattr("torch_geometric_flare.visualization.surface.cone_glyphs", spy)
    surface = sphere(4000)
    value = surface["pos"][:, 0]
    image, *_ = pictures(
        panels(truth=value, prediction=value, max_points=max_points, **surface)
    )
    assert share_of_holes(image) < 1e-3
    (count, area) = drawn[0]
    assert count == min(4000, max_points)
    assert area == pytest.approx(4 * torch.pi, rel=1e-4)


def test_without_normals_points_become_balls_that_touch():
    surface = sphere(3000)
    value = surface["pos"][:, :1]
    image, *_ = pictures(panels(pos=surface["pos"], truth=value, prediction=value))
    assert share_of_holes(image) < 0.01


def test_neighbor_distance():
    ticks = torch.arange(12.0) * 0.25
    grid = torch.cartesian_prod(ticks, ticks, ticks).numpy()
    assert rendering._neighbor_distance(grid) == pytest.approx(0.25)
    doubled = np.concatenate((grid, grid))
    assert rendering._neighbor_distance(doubled) == pytest.approx(0.25)
    assert rendering._neighbor_distance(np.zeros((3, 3), np.float32)) == 1.0


def test_values_that_are_not_finite_are_grey():
    surface = plate(0.0, -1.0)
    truth = surface["pos"][:, 2]
    prediction = torch.full((400,), torch.nan)
    prediction[:200] = torch.inf
    figure = panels(truth=truth, prediction=prediction, **surface)
    for image in pictures(figure)[1:]:
        red, green, blue = image[image.shape[0] // 2, image.shape[1] // 2]
        assert red == green == blue and 200 < red < 230  # lightgrey is 211


def test_a_constant_field_a_single_point_and_a_view_from_above():
    figure = panels(
        pos=torch.zeros(1, 3),
        truth=torch.full((1, 1), 5.0),
        prediction=torch.full((1,), 5.0),
        views=[(0, 0, 1)],
    )
    assert figure.axes[-2].get_xlim() == pytest.approx((4.95, 5.05))
    assert figure.axes[-1].get_xlim() == (-1.0, 1.0)


def test_figure_saves_and_nothing_is_left_open():
    before = len(pv.plotting.plotter._ALL_PLOTTERS)
    surface = sphere(50)
    figure = panels(
        truth=surface["pos"][:, 0],
        prediction=surface["pos"][:, 1].requires_grad_(),
        **surface,
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=30)
    assert buffer.getvalue().startswith(b"\x89PNG")
    assert len(pv.plotting.plotter._ALL_PLOTTERS) == before
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pos": torch.rand(4, 2)}, r"pos must have shape \[N, 3\], got \[4, 2\]"),
        ({"pos": torch.rand(0, 3)}, "pos must have shape"),
        ({"truth": torch.rand(3)}, r"truth must have shape \[4, 1\], got \[3\]"),
        ({"prediction": torch.rand(4, 2)}, "prediction must have shape"),
        ({"truth": torch.full((4,), torch.nan)}, "truth must be finite"),
        ({"area": None}, "both or neither"),
        ({"area": -torch.ones(4)}, "negative"),
        ({"normal": torch.rand(4)}, "normal must have shape"),
        ({"views": []}, "views"),
        ({"views": [(0, 0, 0)]}, "views"),
        ({"max_points": 0}, "max_points"),
    ],
)
def test_errors(change, message):
    arguments = {
        **sphere(4),
        "truth": torch.rand(4),
        "prediction": torch.rand(4),
        "field": PRESSURE,
        "title": "t",
        **change,
    }
    with pytest.raises(ValueError, match=message):
        plot_surface_comparison(**arguments)
