import numpy as np
import pytest
import pyvista as pv

from torch_geometric_flare.mesh_io import polygon_vectors, polygons


def box():
    return pv.Box((1.0, 3.0, -1.0, 0.0, 5.0, 8.0), quads=True)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("chunk", [2**20, 4])
def test_box(flip, chunk, monkeypatch):
    monkeypatch.setattr(polygons, "_CHUNK", chunk)
    mesh = box()
    if flip:
        mesh = pv.PolyData.from_regular_faces(
            mesh.points, mesh.regular_faces[:, ::-1].copy()
        )
    centers, vectors = polygon_vectors(mesh)
    middle = np.array([2.0, -0.5, 6.5])
    assert centers.dtype == vectors.dtype == np.float64
    half = np.array([1.0, 0.5, 1.5])
    for center, vector in zip(centers - middle, vectors, strict=True):
        (axis,) = np.flatnonzero(center)
        expected = np.zeros(3)
        expected[axis] = np.sign(center[axis]) * 4 * half.prod() / half[axis]
        np.testing.assert_allclose(vector, expected, atol=1e-12)
        assert abs(center[axis]) == half[axis]


def test_polygons_of_different_sizes():
    # A prism over an L, which is not a convex polygon: its area is 3.
    corners = [(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)]
    points = np.array([(x, y, z) for z in (0, 1) for x, y in corners], float)
    faces = [[6, 5, 4, 3, 2, 1, 0], [6, 6, 7, 8, 9, 10, 11]]
    faces += [[4, i, (i + 1) % 6, (i + 1) % 6 + 6, i + 6] for i in range(6)]
    mesh = pv.PolyData(points, faces=np.concatenate(faces))
    centers, vectors = polygon_vectors(mesh)
    np.testing.assert_allclose(vectors[0], [0, 0, -3], atol=1e-12)
    np.testing.assert_allclose(vectors[1], [0, 0, 3], atol=1e-12)
    np.testing.assert_allclose(vectors.sum(0), 0, atol=1e-12)
    np.testing.assert_allclose(centers[1], [1, 1, 1])


def test_no_outer_side():
    sheet = pv.Plane(i_resolution=3, j_resolution=2)
    with pytest.raises(ValueError, match="encloses no volume"):
        polygon_vectors(sheet)
    for other in (pv.PolyData(np.eye(3)), box().cast_to_unstructured_grid()):
        with pytest.raises(ValueError, match="not polygons"):
            polygon_vectors(other)
