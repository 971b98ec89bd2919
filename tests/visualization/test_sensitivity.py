import numpy as np
import pytest
import pyvista as pv

from torch_geometric_flare.visualization import plot_sensitivity


def shown(figure):
    """Mean red minus mean blue of the colours in each half of the picture."""
    image = np.asarray(figure.axes[0].images[0].get_array(), float)
    drawn = image.min(axis=2) < 240
    colour = np.where(drawn, image[..., 0] - image[..., 2], 0.0)
    middle = image.shape[1] // 2
    return colour[:, :middle].mean(), colour[:, middle:].mean()


def test_red_is_where_pulling_out_lowers_the_quantity():
    ball = pv.Sphere()
    x = np.asarray(ball.points[:, 0], np.float64)
    ball.point_data["drag_normal_gradient"] = x  # pulling out at x < 0 lowers it
    view = ((0.0, -1.0, 0.0),)
    left, right = shown(plot_sensitivity(ball, title="simulated", views=view))
    assert left > 10 and right < -10
    ball.point_data["drag_smooth_gradient"] = -x
    left, right = shown(plot_sensitivity(ball, title="simulated", views=view))
    assert left < -10 and right > 10


def test_a_mesh_without_derivatives():
    with pytest.raises(ValueError, match="lift_normal_gradient"):
        plot_sensitivity(pv.Sphere(), "lift", title="none")
