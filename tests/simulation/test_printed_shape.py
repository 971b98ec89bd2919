import numpy as np
import pytest

from torch_geometric_flare.simulation import PrintedShape
from torch_geometric_flare.simulation.printed_shape import BUILD_SPACE, supported


def test_supported_drops_what_hangs_in_the_air():
    voxels = np.zeros((5, 3, 4), dtype=bool)
    voxels[0, 0, :3] = True  # a column
    voxels[1:4, 0, 2] = True  # a beam that it holds
    voxels[3, 0, 3] = True  # a column on the beam
    expected = voxels.copy()
    voxels[4, 1, 2] = True  # touches the beam at an edge only
    voxels[1, 2, 1:] = True  # stands on nothing
    np.testing.assert_array_equal(supported(voxels), expected)
    with pytest.raises(ValueError, match=r"voxel \(1, 2, 1\) of `voxels`"):
        PrintedShape(voxels)
    PrintedShape(expected)


def test_mesh():
    voxels = np.zeros((2, 2, 2), dtype=bool)
    voxels[0, 0, :] = voxels[1, 0, 1] = True
    nodes, cells = PrintedShape(voxels).mesh()
    assert PrintedShape(voxels).num_nodes == len(nodes) == 16
    assert (np.diff(nodes[:, 2]) >= 0).all()
    # VTK's order: round the bottom counterclockwise from above, then the top.
    offsets = [(0, 0), (1, 0), (1, 1), (0, 1)]
    corners = [(x, y, z) for z in (0, 1) for x, y in offsets]
    for cell, origin in zip(cells, [(0, 0, 0), (0, 0, 1), (1, 0, 1)], strict=True):
        np.testing.assert_array_equal(nodes[cell], np.add(corners, origin))


def test_random_parts_can_be_printed():
    sizes = set()
    for seed in range(40):
        shape = PrintedShape.sample(np.random.default_rng(seed))
        assert shape.voxels.shape == BUILD_SPACE
        np.testing.assert_array_equal(supported(shape.voxels), shape.voxels)
        again = PrintedShape.sample(np.random.default_rng(seed))
        np.testing.assert_array_equal(again.voxels, shape.voxels)
        nodes, cells = shape.mesh()
        np.testing.assert_array_equal(np.unique(cells), np.arange(len(nodes)))
        assert len(np.unique(nodes, axis=0)) == len(nodes)
        sizes.add(len(nodes))
    assert len(sizes) == 40


def test_some_random_parts_overhang():
    above_nothing = 0
    for seed in range(20):
        voxels = PrintedShape.sample(np.random.default_rng(seed)).voxels
        above_nothing += (voxels[:, :, 1:] & ~voxels[:, :, :-1]).any()
    assert above_nothing >= 5


@pytest.mark.parametrize(
    ("voxels", "message"),
    [
        (np.ones((2, 2, 2)), "must be a boolean array"),
        (np.ones((2, 2), dtype=bool), "must be a boolean array"),
        (np.zeros((2, 2, 2), dtype=bool), "has no solid voxel"),
    ],
)
def test_bad_voxels(voxels, message):
    with pytest.raises(ValueError, match=message):
        PrintedShape(voxels)
