import numpy as np
import pytest
import pyvista as pv

from torch_geometric_flare.fields import Field
from torch_geometric_flare.visualization import plot_mesh
from torch_geometric_flare.visualization.mesh import mesh_panels

HEAT = Field("heat", 1, "K")


def box(location, **arrays):
    mesh = pv.ImageData(dimensions=(4, 3, 3)).cast_to_unstructured_grid()
    data = mesh.cell_data if location == "cell" else mesh.point_data
    size = mesh.n_cells if location == "cell" else mesh.n_points
    for name, slope in arrays.items():
        data[name] = slope * np.linspace(0.0, 1.0, size)
    return mesh


def images(figure):
    return [axis.images[0].get_array() for axis in figure.axes if axis.images]


@pytest.mark.parametrize("location", ["cell", "point"])
def test_a_prediction_alone(location, capfd):
    figure = plot_mesh(box(location, heat=1.0), HEAT, title="box", location=location)
    assert len(images(figure)) == 2  # from ahead and behind
    assert "prediction" in {axis.get_title() for axis in figure.axes}
    assert all(np.ptp(picture.astype(int)) > 50 for picture in images(figure))
    assert capfd.readouterr().err == ""


def test_truth_and_error_stand_beside_it():
    mesh = box("point", heat=1.0, heat_true=1.5)
    figure = plot_mesh(mesh, HEAT, title="box")
    headings = [axis.get_title() for axis in figure.axes[:3]]
    assert headings == ["truth", "prediction", "error (prediction − truth)"]
    assert len(images(figure)) == 6
    truth, prediction, _ = images(figure)[:3]
    assert (truth != prediction).any()


@pytest.mark.parametrize("arrays", [{}, {"heat_true": 1.5}])
def test_a_band_that_varies_has_a_panel(arrays):
    plain = mesh_panels(box("point", heat=1.0, **arrays), HEAT, "point")
    mesh = box("point", heat=1.0, heat_band=0.5, **arrays)
    *others, band = mesh_panels(mesh, HEAT, "point")
    assert len(others) == len(plain)
    np.testing.assert_allclose(band.values, mesh["heat_band"])
    figure = plot_mesh(mesh, HEAT, title="box")
    assert len(images(figure)) == 2 * len(others) + 2
    labels = [axis.get_xlabel() for axis in figure.axes if not axis.images]
    assert labels[-1] == "± [K]" and len(labels) == (3 if arrays else 2)
    mesh["heat_band"][:] = 0.5
    assert len(mesh_panels(mesh, HEAT, "point")) == len(plain)


def test_a_cell_has_one_colour():
    mesh = pv.Plane(i_resolution=2, j_resolution=1)
    mesh.clear_data()
    mesh.cell_data["heat"] = [0.0, 1.0]
    (picture,) = images(plot_mesh(mesh, HEAT, title="flat", location="cell"))
    drawn = picture[(picture < 250).any(axis=2)]
    colours, counts = np.unique(drawn, axis=0, return_counts=True)
    # Two colours but for what is blended at their borders.
    assert np.sort(counts)[-2:].sum() > 0.95 * counts.sum()


def test_errors():
    with pytest.raises(ValueError, match="'cell' or 'point', got 'face'"):
        plot_mesh(box("cell", heat=1.0), HEAT, title="", location="face")
    with pytest.raises(ValueError, match=r"no point data 'heat', only \[\]"):
        plot_mesh(box("cell", heat=1.0), HEAT, title="", location="point")
    with pytest.raises(ValueError, match=r"shape \[36, 3\]"):
        plot_mesh(box("point", heat=1.0), Field("heat", 3, "K"), title="")


@pytest.mark.parametrize("gaps", [[0], [1, 5, 30]])
def test_gaps_in_the_truth_are_grey(gaps):
    mesh = box("point", heat=1.0, heat_true=1.5)
    mesh.point_data["heat_true"][gaps] = np.nan
    (truth, prediction, error) = mesh_panels(mesh, HEAT, "point")
    for panel in (truth, error):
        assert np.flatnonzero(np.isnan(panel.values)).tolist() == gaps
        assert np.isfinite(panel.limits).all()
    assert np.isfinite(prediction.values).all()
    assert len(images(plot_mesh(mesh, HEAT, title="box"))) == 6
    mesh.point_data["heat_true"][:] = np.nan
    assert [p.heading for p in mesh_panels(mesh, HEAT, "point")] == ["prediction"]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flat_mesh_is_seen_from_the_side_that_shows_it(axis):
    normal = np.eye(3)[axis]
    mesh = pv.Plane(direction=normal, i_resolution=3, j_resolution=3)
    mesh.clear_data()
    mesh.cell_data["heat"] = np.arange(9.0)
    (picture,) = images(plot_mesh(mesh, HEAT, title="flat", location="cell"))
    drawn = (picture < 250).any(axis=2).mean()
    assert drawn > 0.5
