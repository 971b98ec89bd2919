import json
import pickle
from dataclasses import asdict

import numpy as np
import pytest

from torch_geometric_flare.fields import Field
from torch_geometric_flare.simulation import PrintedPart, PrintedShape

skfem = pytest.importorskip("skfem")

from scipy.sparse.linalg import spsolve  # noqa: E402
from skfem.models.elasticity import lame_parameters, linear_elasticity  # noqa: E402


def bridge():
    """Return a small part: two pillars, a roof over the gap, and a nose outside."""
    voxels = np.zeros((6, 4, 5), dtype=bool)
    voxels[[0, 1, 4], :3, :3] = True
    voxels[:5, :3, 3] = True
    voxels[1:, 1:, 4] = True
    return PrintedShape(voxels)


def build_with_general_solver(shape, model):
    """Compute the same part layer by layer with scikit-fem, factoring every system.

    Returns:
        Nodes, their displacements, and the stress at the centre of each cell.
    """
    nodes, cells = shape.mesh()
    lame = lame_parameters(model.young_modulus, model.poisson_ratio)
    strain = np.diag(model.inherent_strain)
    shrink = lame[0] * np.trace(strain) * np.eye(3) + 2.0 * lame[1] * strain
    # scikit-fem has its own order for the nodes of a cell.
    corners = skfem.MeshHex().p.T
    order = [
        np.flatnonzero((nodes[c] - nodes[c[0]] == corner).all(axis=1))[0]
        for c in cells[:1]
        for corner in corners
    ]
    level = nodes[cells[:, 0], 2]
    total = np.zeros(nodes.shape)
    stress = np.zeros((len(cells), 3, 3))
    for step in range(level.max() + 1):
        exist = np.flatnonzero(level <= step)
        used, local = np.unique(cells[exist][:, order], return_inverse=True)
        mesh = skfem.MeshHex(
            nodes[used].T.astype(float), np.ascontiguousarray(local.reshape(-1, 8).T)
        )
        element = skfem.ElementVector(skfem.ElementHex1())
        basis = skfem.Basis(mesh, element, intorder=3)
        matrix = linear_elasticity(*lame).assemble(basis)
        newest = skfem.Basis(
            mesh, element, intorder=3, elements=np.flatnonzero(level[exist] == step)
        )
        load = skfem.LinearForm(
            lambda v, w: np.einsum("ij,ij...->...", shrink, v.grad)
        ).assemble(newest)
        fixed = basis.get_dofs(lambda x: x[2] < 1e-9).all()
        increment = skfem.solve(
            *skfem.condense(matrix, load, D=fixed), solver=lambda a, b: spsolve(a, b)
        )
        total[used] += increment[basis.nodal_dofs].T
        center = skfem.Basis(
            mesh, element, quadrature=(np.full((3, 1), 0.5), np.ones(1))
        )
        grad = center.interpolate(increment).grad[..., 0]  # [3, 3, E]
        strains = 0.5 * (grad + grad.swapaxes(0, 1)).transpose(2, 0, 1)
        trace = np.trace(strains, axis1=1, axis2=2)[:, None, None] * np.eye(3)
        stress[exist] += lame[0] * trace + 2.0 * lame[1] * strains
        stress[level == step] -= shrink
    return nodes, total, stress


def test_agrees_with_a_general_solver_layer_by_layer():
    model = PrintedPart(inherent_strain=(-0.008, -0.005, 0.002))
    state = model.solve(bridge())
    nodes, displacement, stress = build_with_general_solver(bridge(), model)
    np.testing.assert_array_equal(state.pos, nodes)
    error = np.linalg.norm(state.displacement - displacement)
    assert error < 1e-12 * np.linalg.norm(displacement)
    voigt = stress[:, [0, 1, 2, 1, 2, 0], [0, 1, 2, 2, 0, 1]]
    assert np.linalg.norm(state.stress - voigt) < 1e-12 * np.linalg.norm(voigt)
    # Nodal values: the mean tensor of the cells around, then its invariant.
    for node in (0, 17, len(nodes) - 1):
        mean = stress[(state.cells == node).any(axis=1)].mean(axis=0)
        deviator = mean - np.trace(mean) / 3.0 * np.eye(3)
        expected = np.sqrt(1.5 * (deviator**2).sum())
        assert state.von_mises_stress[node] == pytest.approx(expected, rel=1e-10)


def test_free_shrinkage_along_z_is_exact():
    # Nothing hinders it: each new layer lowers its own top, and no stress remains.
    model = PrintedPart(inherent_strain=(0.0, 0.0, -0.01))
    state = model.solve(bridge())
    top = state.pos[:, 2] > 0
    hanging = (state.pos[:, 2] == 3) & (state.pos[:, 0] == 3)  # first of the roof
    hanging |= (state.pos[:, 2] == 4) & (
        (state.pos[:, 0] == 6) | (state.pos[:, 1] == 4)
    )
    np.testing.assert_allclose(state.displacement[top & ~hanging, 2], -0.01, rtol=1e-11)
    np.testing.assert_allclose(state.displacement[hanging], 0.0, atol=1e-13)
    np.testing.assert_array_equal(state.displacement[~top], 0.0)
    assert np.abs(state.displacement[:, :2]).max() < 1e-13
    assert np.abs(state.stress).max() < 1e-7  # MPa


def test_a_symmetric_part_warps_symmetrically():
    voxels = np.ones((6, 5, 8), dtype=bool)
    voxels[2:4, :, 2:5] = False
    state = PrintedPart().solve(PrintedShape(voxels))
    number = {tuple(p): i for i, p in enumerate(state.pos)}
    for axis, width in ((0, 6), (1, 5)):
        mirrored = state.pos.copy()
        mirrored[:, axis] = width - mirrored[:, axis]
        pairs = [number[tuple(p)] for p in mirrored]
        sign = np.where(np.arange(3) == axis, -1.0, 1.0)
        np.testing.assert_allclose(
            state.displacement[pairs], sign * state.displacement, atol=1e-13
        )
        np.testing.assert_allclose(
            state.von_mises_stress[pairs], state.von_mises_stress, rtol=1e-10
        )


def test_the_part_bends_as_prints_do():
    # A long thin wall contracts, curls up at its ends and is pulled off the plate.
    state = PrintedPart().solve(PrintedShape(np.ones((20, 3, 6), dtype=bool)))
    top = state.pos[:, 2] == 5
    x, u = state.pos[top, 0], state.displacement[top]
    assert (u[x == 0, 0] > 0).all()
    assert (u[x == 20, 0] < 0).all()
    assert u[x == 0, 2].mean() > u[x == 10, 2].mean() + 0.01
    # Linear in the inherent strain, independent of Young's modulus.
    other = PrintedPart(young_modulus=1e3, inherent_strain=(-0.004, -0.004, 0.0))
    half = other.solve(PrintedShape(np.ones((20, 3, 6), dtype=bool)))
    np.testing.assert_allclose(2 * half.displacement, state.displacement, atol=1e-12)
    np.testing.assert_allclose(
        220 * half.von_mises_stress, state.von_mises_stress, rtol=1e-9
    )


def test_fields():
    model = PrintedPart(max_nodes=1500)
    sample = model.sample(np.random.default_rng(0))
    n, e = len(sample["pos"]), len(sample["cells"])
    assert 700 <= n <= 1500
    assert {name: array.shape for name, array in sample.items()} == {
        "pos": (n, 3),
        "displacement_z": (n,),
        "displacement": (n, 3),
        "von_mises_stress": (n,),
        "cells": (e, 8),
        "edge_index": (2, sample["edge_index"].shape[1]),
    }
    assert model.fields == (
        Field("displacement_z", 1, "mm"),
        Field("displacement", 3, "mm"),
        Field("von_mises_stress", 1, "MPa"),
    )
    assert model.features == ()
    np.testing.assert_array_equal(
        sample["displacement_z"], sample["displacement"][:, 2]
    )
    lower, upper = np.array(model.coordinate_bounds)
    assert (sample["pos"] >= lower).all()
    assert (sample["pos"] <= upper).all()
    plate = sample["pos"][:, 2] == 0
    assert plate.any()
    assert (sample["displacement"][plate] == 0).all()
    assert (sample["von_mises_stress"] > 0).all()


def test_edges_are_those_of_the_cubes():
    sample = PrintedPart(max_nodes=1500).sample(np.random.default_rng(1))
    pos, edges = sample["pos"], sample["edge_index"]
    np.testing.assert_allclose(np.abs(pos[edges[0]] - pos[edges[1]]).sum(axis=1), 1.0)
    as_set = {tuple(edge) for edge in edges.T}
    assert len(as_set) == edges.shape[1]
    assert as_set == {(b, a) for a, b in as_set}
    ring = [(0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4)]
    ring += [(0, 4), (1, 5), (2, 6), (3, 7)]
    expected = {(c[a], c[b]) for c in sample["cells"].tolist() for a, b in ring}
    assert as_set == expected | {(b, a) for a, b in expected}


def test_the_generator_decides_everything():
    model = PrintedPart(max_nodes=1200)
    first, again, other = (model.sample(np.random.default_rng(s)) for s in (5, 5, 6))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    assert first["pos"].shape != other["pos"].shape
    assert pickle.loads(pickle.dumps(model)) == model
    assert json.loads(json.dumps(asdict(model)))["max_nodes"] == 1200


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("max_nodes", 999),
        ("max_nodes", 2000.0),
        ("young_modulus", 0.0),
        ("young_modulus", float("nan")),
        ("poisson_ratio", 0.5),
        ("inherent_strain", (-0.008, -0.008)),
        ("inherent_strain", -0.008),
        ("inherent_strain", (-0.008, float("nan"), 0.0)),
    ],
)
def test_bad_arguments(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}` must be"):
        PrintedPart(**{argument: value})
