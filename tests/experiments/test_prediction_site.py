"""`tgflare predict --at`: fields around a mesh, by a checkpoint with query points."""

import numpy as np
import pytest
import pyvista as pv
import torch
from torch_geometric.data import Data

from torch_geometric_flare import FLARE
from torch_geometric_flare.cli import main
from torch_geometric_flare.fields import Field, num_channels
from torch_geometric_flare.mesh_io import QuerySite, points_inside
from torch_geometric_flare.nn import FLAREQuery
from torch_geometric_flare.surrogates import (
    QueryPoints,
    QuerySurrogate,
    Surrogate,
    save_surrogate,
)
from torch_geometric_flare.transforms import Normalizer

BODY = ((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
AIR = ((-2.0, -2.0, -2.0), (4.0, 2.0, 2.0))


def make_surrogate(features=(), location=None):
    torch.manual_seed(0)
    width = 3 + num_channels(features)
    model = FLAREQuery(3, 8, 1, width, 4, num_layers=2, heads=2, num_latents=4)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return QuerySurrogate(
        model,
        Normalizer([20.0], [7.0]),
        Normalizer.from_bounds(*BODY),
        "a simulated field",
        fields=[Field("pressure")],
        location=location,
        query=QueryPoints(
            Normalizer([1.0, 0.0, 0.0, 5.0], [2.0, 1.0, 1.0, 3.0]),
            Normalizer.from_bounds(*AIR),
            fields=[Field("velocity", 3, "m/s"), Field("pressure")],
            features=features,
        ),
    ).eval()


@pytest.fixture
def surrogate():
    return make_surrogate()


@pytest.fixture
def files(tmp_path, surrogate, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    save_surrogate(surrogate, "run/last.ckpt")
    body().save("body.stl")
    return tmp_path


def body(radius=1.0):
    return pv.Sphere(radius=radius, theta_resolution=16, phi_resolution=16)


def expected_at(surrogate, mesh, points, scale=1.0):
    """Velocity and pressure, from the surrogate itself."""
    source = torch.tensor(np.asarray(mesh.points) * scale).float()
    query = torch.tensor(np.asarray(points) * scale).float()
    return surrogate.predict(Data(pos=source, query_pos=query))[1].numpy()


def fields_of(result):
    return np.column_stack([result["velocity"], result["pressure"]])


def test_a_slice(files, surrogate, capsys):
    assert main(["predict", "run/last.ckpt", "body.stl", "--at=slice:y=0.5:0.25"]) == 0
    result = pv.read("body_stl_slice_y_0.5.vti")
    assert result.dimensions == (25, 1, 17)
    assert result.bounds == pytest.approx((-2, 4, 0.5, 0.5, -2, 2))
    mesh = pv.read("body.stl")
    inside = np.linalg.norm(result.points, axis=1) < 0.95
    outside = np.linalg.norm(result.points, axis=1) > 1.0
    expected = expected_at(surrogate, mesh, result.points)
    found = fields_of(result)
    np.testing.assert_allclose(found[outside], expected[outside], rtol=1e-4, atol=1e-4)
    assert inside.sum() > 20 and np.isnan(found[inside]).all()
    number = int(np.isnan(result["pressure"]).sum())
    assert [str(number)] == list(result.field_data["points_inside"])
    out = capsys.readouterr().out
    assert f"NaN at {number} inside" in out and "velocity (m/s) at 425 points" in out
    assert "FLAREQuery from checkpoint run/last.ckpt" in str(
        result.field_data["provenance"][0]
    )
    assert str(result.field_data["guard"][0]).startswith("none")
    assert not list(files.glob("*predicted*"))


def test_the_default_slice_is_201_points_wide(surrogate):
    result = surrogate.predict_around(body(), "slice:z=0")
    assert result.dimensions == (201, 135, 1)


def test_a_box_with_a_picture_and_a_page(files, capsys):
    at = "--at=box:1.5,3.5,-1,1,0,1:0.5"
    arguments = ["predict", "run/last.ckpt", "body.stl", at, "--png", "--html"]
    assert main(arguments) == 0
    result = pv.read("body_stl_box.vti")
    assert result.dimensions == (5, 5, 3) and np.isfinite(result["velocity"]).all()
    assert result.bounds == pytest.approx((1.5, 3.5, -1, 1, 0, 1))
    for name in ("velocity", "pressure"):
        picture = files / f"body_stl_box_{name}.png"
        assert picture.read_bytes().startswith(b"\x89PNG")
        page = (files / f"body_stl_box_{name}.html").read_text(encoding="utf-8")
        assert "box:1.5,3.5,-1,1,0,1:0.5" in page


def test_a_picture_of_a_slice_through_the_body(files):
    at = "--at=slice:y=0:0.2"
    assert main(["predict", "run/last.ckpt", "body.stl", at, "--png", "--html"]) == 0
    assert (files / "body_stl_slice_y_0_pressure.png").exists()
    assert (files / "body_stl_slice_y_0_velocity.html").exists()


@pytest.mark.parametrize("header", ["", "z, x, y, id\n"])
def test_a_table_of_points(files, surrogate, header):
    points = np.array([[3.0, 0.0, 0.5], [1.5, 1.5, 0.0], [0.0, 0.0, 1.75]])
    order = [2, 0, 1] if header else [0, 1, 2]
    rows = [",".join(map(str, point[order])) for point in points]
    if header:
        rows = [f"{row}, {7 + i}" for i, row in enumerate(rows)]
    (files / "probe.csv").write_text(header + "\n".join(rows))
    arguments = ["predict", "run/last.ckpt", "body.stl", "--at=probe.csv"]
    assert main([*arguments, "--png"] if header else arguments) == 0
    result = pv.read("body_stl_probe_csv.vtp")
    np.testing.assert_allclose(result.points, points)
    expected = expected_at(surrogate, pv.read("body.stl"), points)
    np.testing.assert_allclose(fields_of(result), expected, rtol=1e-4, atol=1e-4)
    assert ("id" in result.point_data) == bool(header)
    assert (files / "body_stl_probe_csv_pressure.png").exists() == bool(header)


def test_a_mesh_with_its_truth(files, surrogate):
    room = pv.ImageData(dimensions=(4, 3, 3), spacing=(1, 1, 1), origin=(1.1, -1, -1))
    room = room.cast_to_unstructured_grid()
    expected = expected_at(surrogate, pv.read("body.stl"), room.points)
    room.point_data["pressure"] = expected[:, 3] + 1.0
    room.save("room.vtu")
    assert main(["predict", "run/last.ckpt", "body.stl", "--at", "room.vtu"]) == 0
    result = pv.read("body_stl_room_vtu.vtu")
    np.testing.assert_allclose(fields_of(result), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(result["pressure_error"], -1, atol=1e-3)
    before = (files / "room.vtu").read_bytes()
    output = ["--at", "room.vtu", "--output", "room.vtu"]
    assert main(["predict", "run/last.ckpt", "body.stl", *output]) == 2
    assert (files / "room.vtu").read_bytes() == before


def test_millimetres_and_chunks(files, surrogate):
    body(1000.0).save("mm.stl")
    at = ["--at=box:1500,3500,-1000,1000,0,1000:500", "--scale=0.001", "--chunk=17"]
    assert main(["predict", "run/last.ckpt", "mm.stl", *at, "--output=out.vti"]) == 0
    result = pv.read("out.vti")
    assert result.bounds[1] == pytest.approx(3500)
    expected = expected_at(surrogate, pv.read("mm.stl"), result.points, 1e-3)
    np.testing.assert_allclose(fields_of(result), expected, rtol=1e-3, atol=1e-3)


def test_features_come_from_the_table_or_the_command_line(files):
    surrogate = make_surrogate([Field("distance")])
    save_surrogate(surrogate, "run/last.ckpt")
    (files / "probe.csv").write_text("x,y,z,distance\n3,0,0,2\n0,0,2,1\n3,0,0,9\n")
    (files / "bare.csv").write_text("3,0,0\n0,0,2\n")
    call = ["predict", "run/last.ckpt", "body.stl"]
    assert main([*call, "--at=probe.csv"]) == 0
    near, _, far = pv.read("body_stl_probe_csv.vtp")["pressure"]
    assert abs(near - far) > 1e-3
    assert main([*call, "--at=bare.csv"]) == 2
    assert main([*call, "--at=bare.csv", "--set=distance=2"]) == 0
    assert pv.read("body_stl_bare_csv.vtp")["pressure"][0] == pytest.approx(near)


DISTANCES = (Field("signed_distance", 1, "m"), Field("distance_direction", 3))


def test_distances_to_the_body_are_computed(files, capsys):
    surrogate = make_surrogate(DISTANCES)
    save_surrogate(surrogate, "run/last.ckpt")
    sphere = pv.Icosphere(radius=800.0, nsub=5)
    sphere.save("mm.stl")
    call = ["predict", "run/last.ckpt", "mm.stl", "--scale=0.001"]
    assert main([*call, "--at=slice:y=0:100"]) == 0
    result = pv.read("mm_stl_slice_y_0.vti")
    radius = 1e-3 * np.linalg.norm(result.points, axis=1, keepdims=True)
    said = capsys.readouterr().out
    assert f"NaN at {(radius < 0.8).sum()} inside" in said
    query = Data(query_pos=torch.tensor(1e-3 * result.points).float())
    query.query_signed_distance = torch.tensor(radius - 0.8).float()
    direction = 1e-3 * result.points / np.maximum(radius, 1e-9)
    query.query_distance_direction = torch.tensor(direction).float()
    state = surrogate.encode(Data(pos=torch.tensor(1e-3 * sphere.points).float()))
    expected = surrogate.predict_at(state, query).numpy()
    outside = radius[:, 0] > 0.8
    assert outside.sum() > 1000
    found = fields_of(result)[outside]
    # The sphere of triangles is up to 1 mm smaller, and turns by up to 2 degrees.
    np.testing.assert_allclose(found, expected[outside], atol=0.05)

    # A table or an option that has them decides.
    (files / "p.csv").write_text("x,y,z,signed_distance\n2,0,0,9\n")
    assert main([*call, "--at=p.csv", "--scale=0.001"]) == 2  # 2 mm: inside of the body
    (files / "p.csv").write_text("x,y,z,signed_distance\n2000,0,0,9\n")
    assert main([*call, "--at=p.csv"]) == 0
    point = Data(query_pos=torch.tensor([[2.0, 0.0, 0.0]]))
    point.query_signed_distance = torch.tensor([[9.0]])
    point.query_distance_direction = torch.tensor([[1.0, 0.0, 0.0]])
    found = fields_of(pv.read("mm_stl_p_csv.vtp"))
    np.testing.assert_allclose(found, surrogate.predict_at(state, point), atol=0.05)

    sphere.remove_cells([0]).save("open.stl")
    call[2] = "open.stl"
    assert main([*call, "--at=slice:y=0:100"]) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert "open.stl" in line and "signed_distance" in line


def test_without_a_place_the_surface_is_predicted(files, surrogate):
    assert main(["predict", "run/last.ckpt", "body.stl"]) == 0
    result = pv.read("body_stl_predicted.vtp")
    pos = torch.tensor(result.points)
    expected = surrogate.source().predict(Data(pos=pos))[:, 0]
    np.testing.assert_allclose(result["pressure"], expected.numpy(), rtol=1e-4)
    assert "velocity" not in result.point_data


def test_a_checkpoint_of_the_surface_alone(files, capsys):
    surrogate = Surrogate(
        FLARE(3, 8, 1, num_layers=1, heads=2, num_latents=4),
        Normalizer([0.0], [1.0]),
        Normalizer.from_bounds(*BODY),
    )
    save_surrogate(surrogate, "surface.ckpt")
    assert main(["predict", "surface.ckpt", "body.stl", "--at=slice:y=0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    for part in ("--at slice:y=0", "surface.ckpt", "FLAREQuery"):
        assert part in line
    assert not list(files.glob("body_*"))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("slice:w=0", "slice:w=0"),
        ("slice:y", "slice:y"),
        ("slice:y=a", "'a'"),
        ("slice:y=0:0", "0"),
        ("slice:y=0:-1", "-1"),
        ("slice:y=nan", "'nan'"),
        ("box:0,1,0,1,0", "5"),
        ("box:1,0,0,1,0,1", "x goes from 1 to 0"),
        ("box:0,1,0,1,0,1:x", "'x'"),
        ("nowhere", "'nowhere'"),
        ("points.txt", "points.txt"),
    ],
)
def test_texts_that_are_no_place(text, part, files, capsys):
    with pytest.raises(ValueError, match="^'") as caught:
        QuerySite.parse(text)
    assert part in str(caught.value) and text in str(caught.value)
    with pytest.raises(SystemExit):
        main(["predict", "run/last.ckpt", "body.stl", "--at", text])
    assert "--at" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("at", "content", "part"),
    [
        ("slice:y=9", None, "y from -2 to 2"),
        ("box:0,1,0,1", None, "box:0,1,0,1"),
        ("slice:y=0:1e-5", None, "larger spacing"),
        ("box:90,91,0,1,0,1", None, "x [90, 91]"),
        ("absent.csv", None, "absent.csv"),
        ("absent.vtu", None, "absent.vtu"),
        ("p.csv", "", "p.csv"),
        ("p.csv", "x,y\n0,1\n", "x, y, z"),
        ("p.csv", "0,1\n", "row 1"),
        ("p.csv", "0,1,2\n0,1,nan\n", "row 2"),
        ("p.csv", "0,0,0\n0.1,0,0\n0,0,0.7\n", "velocity"),
    ],
)
def test_places_that_cannot_be(at, content, part, files, capsys):
    if content is not None:
        (files / at).write_text(content)
    assert main(["predict", "run/last.ckpt", "body.stl", "--at", at]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert part in line
    assert not list(files.glob("body_*"))


def test_what_lies_outside_of_the_box_of_the_training(files, surrogate, capsys):
    (files / "p.csv").write_text("3,0,0\n5,0,0\n6,0,0\n7,0,0\n")
    assert main(["predict", "run/last.ckpt", "body.stl", "--at=p.csv"]) == 0
    assert "25%" in capsys.readouterr().err
    assert pv.read("body_stl_p_csv.vtp")["outside_box"].tolist() == [0, 1, 1, 1]


def test_the_guard_judges_the_body(surrogate):
    spheres = [body(radius) for radius in (0.9, 0.92, 0.94, 0.96, 0.98, 1.0)]
    surrogate.fit_guard([Data(pos=torch.tensor(s.points)) for s in spheres])
    result = surrogate.predict_around(spheres[2], "slice:y=0:0.5", guard="error")
    assert str(result.field_data["guard"][0]).startswith("inside")
    flat = body().scale((1.0, 1.0, 0.05))
    with pytest.raises(ValueError, match="outside"):
        surrogate.predict_around(flat, "slice:y=0:0.5", guard="error")


def test_a_single_point(surrogate):
    result = surrogate.predict_around(body(), pv.PolyData([[3.0, 0.0, 0.0]]))
    expected = expected_at(surrogate, body(), [[3.0, 0.0, 0.0]])
    np.testing.assert_allclose(fields_of(result), expected, rtol=1e-4, atol=1e-4)


def test_forces_are_those_of_the_surface(files, capsys):
    forces = ["--forces", "--speed=1", "--area=1"]
    with pytest.raises(SystemExit):
        main(["predict", "run/last.ckpt", "body.stl", "--at=slice:y=0", *forces])
    assert "--at" in capsys.readouterr().err


def test_inside_of_a_closed_surface():
    cube = pv.Box((0.0, 1.0, 0.0, 1.0, 0.0, 1.0)).triangulate()
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.5, 1.5, (400, 3))
    expected = ((points > 0) & (points < 1)).all(1)
    assert np.array_equal(points_inside(cube, points), expected)
    # Vertices, and points on the faces, belong to the flow.
    assert not points_inside(cube, np.array(cube.points)).any()
    on_face = rng.uniform(0, 1, (50, 3))
    on_face[:, 0] = 1.0
    assert not points_inside(cube, on_face).any()
    assert points_inside(cube.remove_cells([0]), points) is None
    assert points_inside(pv.PolyData(points), points) is None
    faces = cube.cast_to_unstructured_grid()
    assert np.array_equal(points_inside(faces, points), expected)
    room = pv.ImageData(dimensions=(3, 3, 3)).cast_to_unstructured_grid()
    assert points_inside(room, points) is None
    lines = cube.append_polydata(pv.Line())
    assert np.array_equal(points_inside(lines, points), expected)


def test_an_open_body_says_so(surrogate):
    mesh = body().remove_cells([0])
    result = surrogate.predict_around(mesh, "slice:y=0:0.5")
    assert np.isfinite(result["pressure"]).all()
    assert "not known" in str(result.field_data["points_inside"][0])


def test_in_the_plane():
    torch.manual_seed(0)
    surrogate = QuerySurrogate(
        FLAREQuery(2, 8, 1, 2, 1, num_layers=1, heads=2, num_latents=4),
        Normalizer([0.0], [1.0]),
        Normalizer.from_bounds([-1.0] * 2, [1.0] * 2),
        query=QueryPoints(
            Normalizer([0.0], [1.0]), Normalizer.from_bounds([-2.0] * 2, [2.0] * 2)
        ),
    )
    circle = pv.Disc(inner=0.5, outer=1.0)
    result = surrogate.predict_around(circle, "box:-2,2,-1,1:0.5")
    assert result.dimensions == (9, 5, 1) and result["field"].shape == (45,)
    with pytest.raises(ValueError, match="slice:x=0"):
        surrogate.predict_around(circle, "slice:x=0")


def test_a_mesh_of_pyvista_is_a_place(surrogate):
    line = pv.Line((1.5, 0, 0), (3.5, 0, 0), resolution=8)
    result = surrogate.predict_around(body(), line)
    assert result is not line and "pressure" not in line.point_data
    expected = expected_at(surrogate, body(), line.points)
    np.testing.assert_allclose(fields_of(result), expected, rtol=1e-4, atol=1e-4)
