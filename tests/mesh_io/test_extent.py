import pytest
import torch

from torch_geometric_flare.mesh_io import check_extent

LOWER, UPPER = torch.zeros(3), torch.tensor([4.0, 2.0, 1.0])


def corners(scale=1.0, shift=0.0):
    return torch.stack((LOWER, UPPER)) * scale + shift


def test_which_points_are_inside_of_the_box():
    assert check_extent(corners(), LOWER, UPPER).tolist() == [True, True]
    points = torch.tensor([[0.0, 0, 0], [4, 2, 1], [5, 2, 1], [5.9, 0, 0]])
    inside = [True, True, False, False]
    assert check_extent(points, LOWER, UPPER).tolist() == inside


@pytest.mark.parametrize(
    ("points", "hint"),
    [
        (corners(1000), "Give scale=0.001 if the mesh is in millimeters"),
        (corners(1 / 0.3048), "Give scale=0.3048 if the mesh is in feet"),
        (corners(0.2), "Give scale=FACTOR for other units"),
        (corners(shift=torch.tensor([9.0, 0, 0])), "or move and turn the mesh"),
    ],
)
def test_what_lies_elsewhere_is_refused(points, hint):
    with pytest.raises(ValueError, match=r"x \[0, 4\], y \[0, 2\]") as caught:
        check_extent(points, LOWER, UPPER)
    assert hint in str(caught.value)


def test_the_plane():
    lower, upper = torch.zeros(2), torch.ones(2)
    assert check_extent(torch.eye(2), lower, upper).all()
    with pytest.raises(ValueError, match="scale=0.01 if .* centimeters"):
        check_extent(torch.eye(2) * 100, lower, upper)
