import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_flare.experiments import LPBF, Selection
from torch_geometric_flare.simulation import PrintedPart, PrintedShape
from torch_geometric_flare.transforms import RandomMirror


def test_mirror_images_of_parts_warp_as_mirror_images():
    voxels = np.zeros((6, 4, 5), dtype=bool)
    voxels[[0, 1, 4], :3, :3] = True
    voxels[:5, :3, 3] = True
    voxels[1:, 1:, 4] = True
    part, mirrored = (
        PrintedPart().solve(PrintedShape(v)) for v in (voxels, voxels[::-1].copy())
    )
    mirror = RandomMirror(0, 1.0, position=voxels.shape[0] / 2)
    image = mirror(Data(pos=torch.from_numpy(part.pos)))
    places = {tuple(p): i for i, p in enumerate(mirrored.pos.tolist())}
    order = [places[tuple(p)] for p in image.pos.tolist()]
    for name in ("displacement", "von_mises_stress"):
        found, expected = getattr(part, name), getattr(mirrored, name)[order]
        if name == "displacement":
            found, expected = found[:, 2], expected[:, 2]
            assert np.abs(found - found[order]).max() > 0.001  # it is not symmetric
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("parts")


@pytest.mark.slow
def test_the_network_sees_the_distance_to_the_surface(root):
    splits = LPBF.load(Selection(root=root, num_train=1, num_test=1))
    (data,) = splits.train
    assert [field.name for field in splits.features] == ["surface_distance"]
    assert data.x.shape == (data.num_nodes, 9)
    distance = data.x[:, 3:].expm1().round(decimals=3)
    # Voxels of 1 mm: whole millimetres, and as far down as the node is high at most.
    assert torch.equal(distance, distance.round())
    assert (distance[:, 4] <= data.pos[:, 2]).all() and distance.max() > 3
    encoded = splits.input_normalizer.encode(data.x)
    torch.testing.assert_close(encoded[:, 3:], data.x[:, 3:])
    spread = encoded[:, :3] - (data.pos - data.pos.mean(0))
    assert spread.abs().max() < 1e-3  # millimetres about their mean


@pytest.mark.slow
def test_vectors_are_not_mirrored(root):
    selection = Selection(root=root, num_train=1, num_test=1, fields=("displacement",))
    assert LPBF.load(selection).train_transform is None
