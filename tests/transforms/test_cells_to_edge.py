import pytest
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import FaceToEdge

from torch_geometric_flare.datasets import MeshData
from torch_geometric_flare.transforms import CellsToEdge

# Corners in VTK's order.
SQUARE = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
CUBE = SQUARE + [[x, y, 1] for x, y, _ in SQUARE]
TRIANGLE = [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
SOLIDS = {
    "hexahedron": CUBE,
    "wedge": TRIANGLE + [[x, y, 1] for x, y, _ in TRIANGLE],
    "pyramid": [*SQUARE, [0.5, 0.5, 1]],
    "tetra": [*TRIANGLE, [0, 0, 1]],
}


def edges(data):
    return sorted(map(tuple, data.edge_index.t().tolist()))


def both_ways(*pairs):
    return sorted([*pairs, *((b, a) for a, b in pairs)])


@pytest.mark.parametrize("cell_type", SOLIDS)
def test_edges_of_a_solid_are_those_of_its_hull(cell_type):
    # Two corners are joined where they share two faces; faces are found by brute force.
    points = torch.tensor(SOLIDS[cell_type]).double()
    size, faces = len(points), set()
    for a in range(size):
        for b in range(a):
            for c in range(b):
                normal = torch.linalg.cross(
                    points[b] - points[a], points[c] - points[a]
                )
                side = (points - points[a]) @ normal
                if normal.any() and ((side <= 1e-9).all() or (side >= -1e-9).all()):
                    faces.add(tuple((side.abs() < 1e-9).nonzero().flatten().tolist()))
    pairs = [
        (a, b)
        for a in range(size)
        for b in range(a)
        if sum(a in face and b in face for face in faces) == 2
    ]
    data = Data(pos=points.float(), cells=torch.arange(size).unsqueeze(0))
    named = cell_type if cell_type == "tetra" else None
    assert edges(CellsToEdge(named)(data)) == both_ways(*pairs)


@pytest.mark.parametrize(
    ("corners", "pairs"),
    [
        (2, [(0, 1)]),
        (3, [(0, 1), (1, 2), (0, 2)]),
        (4, [(0, 1), (1, 2), (2, 3), (0, 3)]),
    ],
)
def test_flat_cells(corners, pairs):
    data = Data(pos=torch.rand(5, 2), cells=torch.arange(corners).unsqueeze(0))
    out = CellsToEdge()(data)
    assert edges(out) == both_ways(*pairs)
    assert "edge_index" not in data and out.cells is data.cells


def test_triangles_have_the_edges_of_face_to_edge():
    cells = torch.randint(0, 40, (60, 3))
    cells = cells[(cells.sort(1).values.diff(dim=1) > 0).all(1)]
    pos = torch.rand(40, 3)
    expected = FaceToEdge()(Data(pos=pos, face=cells.t())).edge_index
    found = CellsToEdge()(Data(pos=pos, cells=cells.int())).edge_index
    assert found.equal(expected)


def test_shared_edges_once_no_loops_and_no_stale_edge_attr():
    # Two quads side by side, the second collapsed to a triangle.
    cells = torch.tensor([[0, 1, 2, 3], [1, 4, 4, 2]])
    data = Data(pos=torch.rand(6, 2), cells=cells, edge_attr=torch.ones(3))
    out = CellsToEdge()(data)
    expected = both_ways((0, 1), (1, 2), (2, 3), (0, 3), (1, 4), (2, 4))
    assert edges(out) == expected
    assert "edge_attr" not in out


def test_four_corners_in_three_dimensions():
    data = Data(pos=torch.rand(4, 3), cells=torch.tensor([[0, 1, 2, 3]]))
    with pytest.raises(ValueError, match="pass cell_type='quad' or cell_type='tetra'"):
        CellsToEdge()(data)
    assert CellsToEdge("quad")(data).num_edges == 8
    assert CellsToEdge("tetra")(data).num_edges == 12
    for name in ("normal", "area"):
        surface = data.clone()
        surface[name] = torch.ones(4, 3)
        assert CellsToEdge()(surface).num_edges == 8


def test_a_batch_is_its_samples():
    samples = [
        MeshData(pos=torch.rand(n, 2), cells=torch.randint(0, n, (6, 3)))
        for n in (5, 1, 9)
    ]
    transform = CellsToEdge()
    expected = Batch.from_data_list([transform(data) for data in samples])
    found = transform(Batch.from_data_list(samples))
    assert found.edge_index.equal(expected.edge_index)
    plain = Batch.from_data_list([Data(**data.to_dict()) for data in samples])
    with pytest.raises(ValueError, match="use datasets.MeshData"):
        transform(plain)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (None, r"the sample has no `cells`, only \['pos'\]"),
        (torch.tensor([0, 1]), r"cells has shape \(2,\) and type torch.int64"),
        (torch.ones(1, 3), "and type torch.float32, expected the points"),
        (torch.tensor([[0, 1, 5]]), "refers to points from 0 to 5, but there are 5"),
        (torch.tensor([[0, -1, 1]]), "refers to points from -1 to 1"),
        (torch.zeros(1, 7, dtype=torch.long), "no cell has 7 corners"),
    ],
)
def test_cells_that_do_not_fit(cells, message):
    data = Data(pos=torch.rand(5, 2))
    if cells is not None:
        data.cells = cells
    with pytest.raises(ValueError, match=message):
        CellsToEdge()(data)


def test_types():
    with pytest.raises(ValueError, match="cell_type must be one of .* got 'hex'"):
        CellsToEdge("hex")
    data = Data(pos=torch.rand(5, 2), cells=torch.tensor([[0, 1, 2]]))
    with pytest.raises(ValueError, match="but a quad has 4 corners"):
        CellsToEdge("quad")(data)
    assert CellsToEdge()(Data(pos=data.pos, cells=data.cells[:0])).num_edges == 0
    assert repr(CellsToEdge("tetra")) == "CellsToEdge(cell_type='tetra')"
