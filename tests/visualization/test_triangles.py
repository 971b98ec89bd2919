import math

import numpy as np
import pytest
import torch

from torch_geometric_flare.visualization.triangles import (
    triangles_of_cells,
    triangles_of_points,
)


def area(triangles):
    """Area of each triangle, and whether it is drawn."""
    x, y = triangles.x[triangles.triangles], triangles.y[triangles.triangles]
    sizes = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0])
    sizes = abs(sizes - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])) / 2
    drawn = np.ones(len(sizes), bool) if triangles.mask is None else ~triangles.mask
    return sizes, drawn


def inner(triangles):
    """Which triangles of points in the unit square lie away from its rim."""
    centres = np.stack((triangles.x, triangles.y), 1)[triangles.triangles].mean(1)
    return abs(centres - 0.5).max(axis=1) < 0.45


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_random_points_leave_no_gaps(seed):
    points = np.random.default_rng(seed).random((2000, 2))
    triangles = triangles_of_points(points)
    sizes, drawn = area(triangles)
    assert sizes[inner(triangles) & drawn].sum() > 0.999 * sizes[inner(triangles)].sum()
    assert sizes[drawn].sum() > 0.97  # slivers along the ragged rim are left out


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_hole_stays_open(seed):
    points = np.random.default_rng(seed).random((1200, 2))
    points = points[np.hypot(*(points - 0.5).T) > 0.2]
    angles = np.linspace(0, 2 * math.pi, 60)[:-1]
    ring = 0.5 + 0.2 * np.stack((np.cos(angles), np.sin(angles)), axis=1)
    triangles = triangles_of_points(np.concatenate((points, ring)))
    sizes, drawn = area(triangles)
    centres = np.stack((triangles.x, triangles.y), 1)[triangles.triangles].mean(1)
    hole = np.hypot(*(centres - 0.5).T) < 0.195
    assert sizes[hole].sum() > 0.1  # of the 0.126 of the disc
    assert sizes[hole & drawn].sum() < 0.1 * sizes[hole].sum()
    solid = inner(triangles) & ~hole
    assert sizes[solid & drawn].sum() > 0.995 * sizes[solid].sum()


def test_a_mesh_that_grows_coarser_is_kept():
    rng = np.random.default_rng(0)
    radius, angle = 0.2 + 3 * rng.random(3000) ** 3, 2 * math.pi * rng.random(3000)
    points = np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=1)
    triangles = triangles_of_points(points)
    sizes, drawn = area(triangles)
    centres = points[triangles.triangles].mean(axis=1)
    inside = (np.hypot(*centres.T) > 0.25) & (np.hypot(*centres.T) < 2.5)
    assert sizes[inside & drawn].sum() > 0.995 * sizes[inside].sum()


def test_points_that_span_nothing():
    assert triangles_of_points(np.zeros((5, 2))) is None
    assert triangles_of_points(np.array([[0.0, 0.0], [1.0, 1.0]])) is None
    line = np.linspace(0, 1, 7)
    assert triangles_of_points(np.stack((line, 2 * line), axis=1)) is None


def test_quads_are_split_into_triangles():
    points = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [0.0, 1.0]])
    triangles = triangles_of_cells(points, torch.tensor([[0, 1, 2, 3]]))
    assert triangles.triangles.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert area(triangles)[0].tolist() == [1.0, 1.0]
    one = triangles_of_cells(points, torch.tensor([[0, 1, 2]]))
    assert one.triangles.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (torch.tensor([[0, 1]]), r"shape \[M, 3\] or \[M, 4\], got \[1, 2\]"),
        (torch.zeros(0, 3, dtype=torch.long), "got \\[0, 3\\]"),
        (torch.tensor([[0, 1, 4]]), "indices of points, from 0 to 3"),
        (torch.tensor([[0, -1, 2]]), "cells .*from 0 to 3"),
        (torch.tensor([[0.0, 1.0, 2.0]]), "cells .*from 0 to 3"),
    ],
)
def test_cells_that_do_not_fit(cells, message):
    with pytest.raises(ValueError, match=message):
        triangles_of_cells(np.zeros((4, 2)), cells)
