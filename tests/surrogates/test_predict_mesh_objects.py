"""What `Surrogate.predict_mesh` takes and refuses in memory."""

import numpy as np
import pytest
import pyvista as pv
import torch
import vtk
from torch import nn

from torch_geometric_flare.fields import Field
from torch_geometric_flare.surrogates import Surrogate
from torch_geometric_flare.transforms import Normalizer


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
    with pytest.raises(ValueError, match=f"mesh has 2 of {broken.n_points} "):
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
