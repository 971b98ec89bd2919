"""What `Surrogate.predict_mesh` takes and refuses in memory."""

import math

import numpy as np
import pytest
import pyvista as pv
import torch
import vtk
from torch import nn

from torch_geometric_flare.fields import Field
from torch_geometric_flare.surrogates import Surrogate, load_surrogate, save_surrogate
from torch_geometric_flare.transforms import Normalizer, SurfaceDistance


class Heights(nn.Module):
    def forward(self, x):
        return x[:, 2:]


def surrogate():
    box = Normalizer.from_bounds([-1.0] * 3, [1.0] * 3)
    fields = (Field("pressure", 1, "Pa"),)
    return Surrogate(Heights(), Normalizer.identity(1), box, fields=fields)


def ball():
    return pv.Sphere(theta_resolution=8, phi_resolution=8)


@pytest.mark.parametrize(
    "mesh, word",
    [
        (pv.MultiBlock({"wing": ball(), "tail": ball()}), "'wing', 'tail'"),
        (pv.MultiBlock(), "0 blocks"),
        (np.zeros((9, 3)), "ndarray"),
        (torch.zeros(4, 3), "Tensor"),
        (None, "None"),
        ([ball()], "list"),
        (7, "7"),
        (vtk.vtkPartitionedDataSetCollection(), "PartitionedDataSetCollection"),
    ],
)
def test_objects_that_are_no_mesh(mesh, word):
    with pytest.raises(TypeError, match=f"mesh is .*{word}") as caught:
        surrogate().predict_mesh(mesh)
    assert "\n" not in str(caught.value)


def test_empty_and_broken_meshes():
    for empty in (pv.PolyData(), pv.UnstructuredGrid(), vtk.vtkPolyData()):
        for location in ("point", "cell"):
            with pytest.raises(ValueError, match="mesh is empty"):
                surrogate().predict_mesh(empty, location=location)
    broken = ball()
    broken.points[[1, 4], 0] = np.nan
    with pytest.raises(ValueError, match=f"mesh has .* 2 of {broken.n_points}"):
        surrogate().predict_mesh(broken)


def test_meshes_of_vtk_and_structured_grids():
    plain = vtk.vtkSphereSource()
    plain.Update()
    found = surrogate().predict_mesh(plain.GetOutput())
    heights = (found.points[:, 2] + 1) / 2
    np.testing.assert_allclose(found.point_data["pressure"], heights, atol=1e-6)
    grid = pv.ImageData(dimensions=(3, 3, 3), spacing=(0.9,) * 3, origin=(-0.9,) * 3)
    found = surrogate().predict_mesh(grid, location="cell")
    assert isinstance(found, pv.UnstructuredGrid)
    heights = (grid.cell_centers().points[:, 2] + 1) / 2
    np.testing.assert_allclose(found.cell_data["pressure"], heights, atol=1e-6)


def test_points_without_cells():
    points = pv.UnstructuredGrid()
    points.points = ball().points
    assert points.n_cells == 0
    found = surrogate().predict_mesh(points, location="point")
    heights = (points.points[:, 2] + 1) / 2
    np.testing.assert_allclose(found.point_data["pressure"], heights, atol=1e-6)
    with pytest.raises(ValueError, match="no cells"):
        surrogate().predict_mesh(points, location="cell")


def with_speed():
    """A surrogate of the speed, between 20 and 60 m/s in training."""
    box = Normalizer.from_bounds([-0.6] * 3, [0.6] * 3)
    speeds = Normalizer.gaussian([torch.linspace(20, 60, 41).unsqueeze(1)])
    return Surrogate(
        Heights(),
        Normalizer.identity(2),
        box,
        fields=(Field("pressure", 2, "Pa"),),
        features=(Field("speed", 1, "m/s"),),
        input_normalizer=Normalizer.cat([Normalizer.identity(3), speeds]),
    )


@pytest.mark.parametrize("speed", [400.0, 144.0, -80.0])
def test_features_far_from_the_training_are_warned_about(speed):
    with pytest.warns(UserWarning, match=rf"speed .* {speed:g} m/s"):
        with_speed().predict_mesh(ball(), constants={"speed": [speed]})


@pytest.mark.parametrize("speed", [20.0, 41.5, 60.0])
def test_features_of_the_training_are_not(speed):
    with_speed().predict_mesh(ball(), constants={"speed": [speed]})


@pytest.mark.parametrize("speed", [19.9, 60.1, 400.0])
def test_bounds_of_the_training_tell_what_is_far(speed, tmp_path):
    model = with_speed()
    model.feature_bounds = [20.0], [60.0]
    save_surrogate(model, tmp_path / "model.ckpt")
    model = load_surrogate(tmp_path / "model.ckpt", Heights())
    assert model.feature_bounds == ([20.0], [60.0])
    with pytest.warns(UserWarning, match=rf"speed .* {speed:g} m/s.* 20 to 60 m/s:"):
        model.predict_mesh(ball(), constants={"speed": [speed]})
    model.predict_mesh(ball(), constants={"speed": [60.0]})  # a bound itself


@pytest.mark.parametrize(
    "bounds", [([1.0], [0.0]), ([0.0], [math.inf]), ([0.0, 1.0], [2.0, 3.0])]
)
def test_bounds_that_are_none(bounds):
    with pytest.raises(ValueError, match="feature_bounds"):
        Surrogate(
            Heights(),
            Normalizer.identity(2),
            features=[Field("speed")],
            feature_bounds=bounds,
        )


class LastColumn(nn.Module):
    def forward(self, x):
        return x[:, -1:]


def hexahedra():
    mesh = pv.StructuredGrid(*np.meshgrid(*(np.arange(n) / 4.0 for n in (4, 3, 2))))
    return mesh.cast_to_unstructured_grid()


def test_surface_distance_is_computed_where_a_mesh_of_bricks_lacks_it():
    box = Normalizer.from_bounds([-1.0] * 3, [1.0] * 3)
    (feature,) = SurfaceDistance().fields(3)
    trained = Surrogate(LastColumn(), Normalizer.identity(1), box, features=(feature,))
    mesh = hexahedra()
    heights = mesh.points[:, 2]
    found = trained.predict_mesh(mesh).point_data["field"]
    assert found == pytest.approx(np.log1p(heights.max() - heights), abs=1e-6)
    mesh.point_data["surface_distance"] = np.full((mesh.n_points, 6), 0.5)
    assert (trained.predict_mesh(mesh).point_data["field"] == 0.5).all()
    with pytest.raises(ValueError, match="surface_distance"):
        trained.predict_mesh(ball())
