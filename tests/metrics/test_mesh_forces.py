import numpy as np
import pytest
import pyvista as pv

from torch_geometric_flare.metrics import mesh_forces

FLOW = {"speed": 2.0, "reference_area": 0.5, "reference_length": 2.0}


def ball(location, slope=-3.0):
    """A ball about (1, 1, 1), whose force is |slope| times its volume, upward."""
    mesh = pv.Sphere(
        radius=0.4, center=(1.0, 1.0, 1.0), theta_resolution=40, phi_resolution=40
    )
    mesh.clear_data()
    cells = location == "cell"
    height = (mesh.cell_centers() if cells else mesh).points[:, 2]
    (mesh.cell_data if cells else mesh.point_data)["pressure"] = slope * height
    return mesh


@pytest.mark.parametrize("location", ["cell", "point"])
def test_buoyancy(location):
    mesh = ball(location)
    found = mesh_forces(mesh, **FLOW, location=location)
    lift = 3 * mesh.volume / (0.5 * 2**2 * 0.5)
    expected = {"drag": 0, "lift": lift, "roll": lift / 2, "pitch": -lift / 2, "yaw": 0}
    assert list(found) == list(expected)
    np.testing.assert_allclose(
        list(found.values()), list(expected.values()), atol=0.01 * lift
    )


def test_units():
    mesh = ball("cell")
    expected = mesh_forces(mesh, **FLOW, location="cell")["lift"]
    pascal = mesh_forces(ball("cell", -3.75), **FLOW, location="cell", density=1.25)
    assert pascal["lift"] == pytest.approx(expected, rel=1e-6)
    large = mesh.scale(1000.0)  # the same values on a body in millimetres
    found = mesh_forces(large, **FLOW, location="cell", scale=0.001)
    assert found["lift"] == pytest.approx(expected, rel=1e-5)
    assert found["roll"] == pytest.approx(expected / 2, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"location": "vertex"}, "'cell' or 'point', got 'vertex'"),
        ({"scale": 0.0}, "scale must be finite and above zero, got 0.0"),
        ({"density": -1.0}, "density must be above zero, got -1.0"),
        ({"location": "point"}, r"no point data 'pressure', only \[\]"),
        ({"speed": 0.0}, "speed"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        mesh_forces(ball("cell"), **{**FLOW, "location": "cell", **arguments})


L_SHAPE = np.array([[0, 0], [2, 0], [2, 1], [1, 1], [1, 2], [0, 2]], float)


def prism(outline, height=1.5, start=0):
    """A closed prism over a polygon, whose first corner is number `start`."""
    outline = np.roll(outline, start, axis=0)
    number = len(outline)
    points = np.concatenate(
        [np.insert(outline, 2, level, axis=1) for level in (0.0, height)]
    )
    low = np.arange(number)
    faces = [number, *low[::-1], number, *(low + number)]
    for k in range(number):
        after = (k + 1) % number
        faces += [4, k, after, after + number, k + number]
    return pv.PolyData(points, faces=faces)


def twisted_box():
    """A box of quads that are not flat."""
    mesh = pv.Box((0, 1, 0, 2, 0, 3), level=3).clean()
    x, y, z = mesh.points.astype(float).T
    angle = 0.3 * z**2
    mesh.points = np.stack(
        [
            np.cos(angle) * x - np.sin(angle) * y,
            np.sin(angle) * x + np.cos(angle) * y,
            z,
        ],
        axis=1,
    )
    return mesh


def half_wound(mesh):
    """The same triangles, every other one of the opposite orientation."""
    faces = mesh.regular_faces.copy()
    faces[::2] = faces[::2, ::-1]
    return pv.PolyData.from_regular_faces(mesh.points, faces)


BODIES = {
    "cone": pv.Cone(direction=(-1, 0, 0), height=2, resolution=40, capping=True),
    "triangles": pv.Box((0, 1, 0, 1, 0, 1), level=4, quads=False).clean(),
    "half wound": half_wound(pv.Sphere(theta_resolution=9, phi_resolution=7)),
    "quads": twisted_box(),
    "polygons": pv.Cylinder(resolution=7, direction=(1, 2, 3), capping=True).clean(),
    "concave": prism(L_SHAPE),
    "concave from another corner": prism(L_SHAPE, start=2),
    "seams": pv.Cube(clean=False),
    "grid": prism(L_SHAPE).cast_to_unstructured_grid(),
}


@pytest.mark.parametrize("location", ["cell", "point"])
@pytest.mark.parametrize("name", BODIES)
def test_closed_bodies_feel_no_uniform_pressure(name, location):
    mesh = BODIES[name].copy()
    mesh.clear_data()
    number = mesh.n_cells if location == "cell" else mesh.n_points
    data = mesh.cell_data if location == "cell" else mesh.point_data
    data["pressure"] = np.full(number, 7.0)
    found = mesh_forces(
        mesh, **FLOW, location=location, reference_point=(0.3, -2.0, 5.0)
    )
    np.testing.assert_allclose(list(found.values()), 0, atol=1e-5)


@pytest.mark.parametrize("name", sorted({*BODIES} - {"quads", "seams", "half wound"}))
def test_linear_pressure_at_vertices_lifts_by_the_volume(name):
    mesh = BODIES[name].copy()
    mesh.clear_data()
    volume = 4.5 if "concave" in name or name == "grid" else mesh.volume
    for axis, coefficient in ((0, "drag"), (2, "lift")):
        mesh.point_data["p"] = 3.0 - 2.0 * mesh.points[:, axis].astype(float)
        found = mesh_forces(mesh, "p", speed=1.0, reference_area=2.0)
        assert found[coefficient] == pytest.approx(2 * volume, rel=1e-5)
        other = {"drag": "lift", "lift": "drag"}[coefficient]
        assert found[other] == pytest.approx(0, abs=1e-5)


def test_a_national_grid_changes_no_force():
    mesh = prism(L_SHAPE)
    mesh.point_data["pressure"] = mesh.points[:, 0] * mesh.points[:, 2]
    flow = {"speed": 1.0, "reference_area": 1.0}
    expected = mesh_forces(mesh, **flow)
    offset = np.array([448251.37, 5411932.81, 120.0])
    mesh.points = mesh.points + offset
    found = mesh_forces(mesh, **flow, reference_point=offset)
    assert found == pytest.approx(expected, abs=1e-6)
    assert abs(expected["drag"]) > 0.1


def test_reference_point():
    mesh = pv.Box((1, 2, 0, 1, 0, 1), level=3, quads=False).clean()
    mesh.clear_data()
    mesh.point_data["pressure"] = -mesh.points[:, 2].astype(float)
    flow = {"speed": 1.0, "reference_area": 2.0}  # the coefficients are the forces
    about_origin = mesh_forces(mesh, **flow)
    assert about_origin["pitch"] == pytest.approx(-1.5, rel=1e-6)
    assert about_origin["roll"] == pytest.approx(0.5, rel=1e-6)
    about_center = mesh_forces(mesh, **flow, reference_point=(1.5, 0.5, 0.5))
    assert about_center["lift"] == pytest.approx(1, rel=1e-6)
    assert about_center["pitch"] == pytest.approx(0, abs=1e-6)
    # In millimetres the point stays in metres.
    large = mesh.scale(1000.0)
    found = mesh_forces(large, **flow, scale=1e-3, reference_point=(1.5, 0.5, 0.5))
    assert found == pytest.approx(about_center, abs=1e-5)
    with pytest.raises(ValueError, match="reference_point"):
        mesh_forces(mesh, **flow, reference_point=(1.0, 2.0))


@pytest.mark.parametrize("at", ["cell", "point"])
def test_normals_of_the_file_tell_the_outside_of_a_cavity(at):
    """A solid ball with a hollow inside: the fluid in the hollow pushes outward."""
    outer = pv.Sphere(radius=2.0, theta_resolution=8, phi_resolution=8)
    inner = pv.Sphere(radius=1.0, theta_resolution=8, phi_resolution=8)
    mesh = outer.append_polydata(inner)
    mesh.clear_data()
    inside = np.linalg.norm(mesh.cell_centers().points, axis=1) < 1.2
    mesh.cell_data["pressure"] = np.where(inside, -mesh.cell_centers().points[:, 2], 0)
    flow = {"speed": 1.0, "reference_area": 2.0, "location": "cell"}
    without = mesh_forces(mesh, **flow)["lift"]
    assert without > 0.5
    radial = (mesh.cell_centers() if at == "cell" else mesh).points.astype(float)
    length = np.linalg.norm(radial, axis=1, keepdims=True)
    data = mesh.cell_data if at == "cell" else mesh.point_data
    data["Normals"] = np.where(length < 1.2, -radial, radial) / length
    assert mesh_forces(mesh, **flow)["lift"] == pytest.approx(-without, rel=1e-9)
