"""Each check on simulated cars: silent on clean ones, right about one that is not."""

from pathlib import Path

import numpy as np
import pytest
import pyvista as pv
import vtk

from torch_geometric_flare.data_checks import CHECKS, GivenForces, check_meshes
from torch_geometric_flare.data_checks.duplicates import surface_distance
from torch_geometric_flare.mesh_io import add_notes, mesh_areas
from torch_geometric_flare.metrics import mesh_forces

ODD = "car_03.vtp"
FLOW = {"speed": 38.889, "reference_area": 2.17}


def check(meshes, **options):
    names = sorted(meshes)
    splits = {"train": names[:-3], "test": names[-3:]}
    paths = {split: [Path(name) for name in part] for split, part in splits.items()}
    return check_meshes(paths, **options)


def only(report, *, mesh=ODD):
    """The one finding, which is about one mesh."""
    (finding,) = report.findings
    assert finding.mesh == mesh
    return finding


def rebuilt(car, change, points=None):
    """A car with other faces: `change` gets and returns them as lists."""
    faces = change([list(cell.point_ids) for cell in car.cell])
    made = pv.PolyData(
        car.points if points is None else points,
        faces=np.concatenate([[len(face), *face] for face in faces]),
    )
    made.cell_data["pressure"] = np.resize(car["pressure"], len(faces))
    made.field_data["speed"] = car.field_data["speed"]
    return made


def test_clean_cars_have_no_findings(cars):
    report = check(cars, forces=GivenForces("pressure", **FLOW))
    assert report.findings == () and report.exit_status == 0
    for number, car in enumerate(cars.values()):
        car.field_data["speed"] = 20.0 + 2 * number
        car.cell_data["pressure"] *= (car.field_data["speed"][0] / 38.889) ** 2
    assert check(cars).findings == ()


def test_a_hole_is_an_error_where_the_others_are_closed(cars):
    four = next(k for k, cell in enumerate(cars[ODD].cell) if cell.n_points == 4)
    cars[ODD] = cars[ODD].remove_cells([four])
    finding = only(check(cars))
    assert (finding.what, finding.severity) == ("open surface", "error")
    assert finding.detail.startswith("4 of ") and len(finding.places) == 4
    alone = only(check({ODD: cars[ODD]}))
    assert (alone.what, alone.severity) == ("open surface", "warning")


def test_a_crack_is_told_from_a_hole(cars):
    car = cars[ODD]
    points, corners = car.points.copy(), list(car.get_cell(40).point_ids)
    points = np.vstack([points, points[corners] + 1e-7])
    new = [car.n_points + k for k in range(len(corners))]
    cars[ODD] = rebuilt(car, lambda faces: [*faces[:40], new, *faces[41:]], points)
    finding = only(check(cars))
    assert f"{2 * len(corners)} of them nearly meet" in finding.detail


def test_a_face_that_is_there_twice(cars):
    cars[ODD] = rebuilt(cars[ODD], lambda faces: [*faces, faces[50]])
    findings = check(cars).findings
    assert [f.what for f in findings] == ["duplicated cells", "edges"]
    assert findings[0].severity == "error" and findings[0].detail.startswith("1 of ")
    assert findings[1].detail.startswith(
        f"{len(cars[ODD].get_cell(50).point_ids)} edges"
    )
    # A thin plate has two faces back to back, which differ.
    cars[ODD] = rebuilt(cars["car_04.vtp"], lambda faces: [*faces, faces[50][::-1]])
    assert [f.what for f in check(cars).findings] == ["edges"]


def test_points_that_coincide_leave_a_surface_closed(cars):
    car = cars[ODD]
    corners = [list(cell.point_ids) for cell in car.cell]
    points = car.points[np.concatenate(corners)]
    numbers = iter(range(len(points)))
    faces = sum(([len(c), *(next(numbers) for _ in c)] for c in corners), [])
    apart = pv.PolyData(points, faces=faces)
    apart.cell_data["pressure"] = car["pressure"]
    apart.field_data["speed"] = car.field_data["speed"]
    cars[ODD] = apart
    finding = only(check(cars))
    assert (finding.what, finding.severity) == ("duplicated points", "warning")
    assert finding.detail.startswith(f"{len(points) - car.n_points} of {len(points)} ")


def test_a_face_without_area(cars):
    def slit(faces):
        a, b = faces[60][:2]
        return [*faces, [a, b, b]]

    cars[ODD] = rebuilt(cars[ODD], slit)
    assert "empty cells" in {f.what for f in check(cars).findings}
    empty = next(f for f in check(cars).findings if f.what == "empty cells")
    assert (empty.mesh, empty.severity) == (ODD, "warning")
    assert empty.detail.startswith("1 of ")


def test_winding(cars):
    cars[ODD] = rebuilt(
        cars[ODD], lambda faces: [*faces[:70], faces[70][::-1], *faces[71:]]
    )
    finding = only(check(cars))
    corners = len(cars[ODD].get_cell(70).point_ids)
    assert (finding.what, finding.severity) == ("winding", "warning")
    assert f" at {corners} of " in finding.detail
    cars[ODD] = rebuilt(cars["car_04.vtp"], lambda faces: [f[::-1] for f in faces])
    cars[ODD].points *= 1.01
    finding = only(check(cars))
    assert finding.what == "winding" and "inward" in finding.detail


@pytest.mark.parametrize("location", ["cell", "point"])
def test_normals_of_the_file(cars, location):
    cells, name = location == "cell", "Normals"
    for car in cars.values():
        car.compute_normals(
            cell_normals=cells,
            point_normals=not cells,
            split_vertices=False,
            auto_orient_normals=True,
            inplace=True,
        )
    assert check(cars).findings == ()
    car = cars[ODD]
    data = car.cell_data if cells else car.point_data
    right = np.array(data[name])
    data[name] = -right
    finding = only(check(cars))
    assert (finding.what, finding.severity) == ("normals", "error")
    assert "all normals point inward" in finding.detail
    centers = car.cell_centers().points if cells else car.points
    front = centers[:, 0] < 1.0
    data[name] = np.where(front[:, None], -right, right)
    finding = only(check(cars))
    if cells:
        areas = mesh_areas(car, cells=True).numpy()[:, 0]
        assert f"{areas[front].sum() / areas.sum():.1%}" in finding.detail


def test_normals_around_a_cavity_may_point_inward():
    outer = pv.Sphere(radius=2.0)
    inner = pv.Sphere(radius=1.0)
    outer.compute_normals(point_normals=False, inplace=True)
    inner.compute_normals(point_normals=False, inplace=True)
    inner.cell_data["Normals"] *= -1
    both = outer.merge(inner)
    both.point_data.clear()
    assert {f.what for f in run_alone(both)} <= {"winding"}
    both.cell_data["Normals"][: outer.n_cells] *= -1
    (finding,) = (f for f in run_alone(both) if f.what == "normals")
    assert f"{4 / 5:.0%}"[:2] in finding.detail


def test_units_and_place(cars):
    cars[ODD].points *= 1000.0
    finding = only(check(cars))
    assert (finding.what, finding.severity) == ("units", "error")
    assert "millimeters" in finding.detail and "0.001" in finding.remedy
    cars[ODD].points /= 1000.0
    cars[ODD].points += (0.0, 100.0, 0.0)
    finding = only(check(cars))
    assert (finding.what, finding.severity) == ("place", "warning")
    assert f"{100:g}" in finding.detail


def test_the_unit_of_a_field(cars):
    cars[ODD].cell_data["pressure"] /= 1000.0
    finding = only(check(cars))
    assert (finding.what, finding.severity) == ("units", "error")
    for number, car in enumerate(cars.values()):  # may be the reason
        car.field_data["speed"] = 38.0 + 0.1 * number
    assert only(check(cars)).severity == "warning"
    cars[ODD].cell_data["pressure"] *= 900.0
    assert check(cars).findings == ()


def test_kinds(cars):
    grid = pv.ImageData(dimensions=(3, 3, 3)).cast_to_unstructured_grid()
    cars[ODD] = grid
    kinds = [f for f in check(cars).findings if f.what == "kind"]
    assert [f.mesh for f in kinds] == [ODD] and "volume" in kinds[0].detail
    cars[ODD] = pv.Plane()
    kinds = [f for f in check(cars).findings if f.what == "kind"]
    assert [f.mesh for f in kinds] == [ODD] and "flat surface" in kinds[0].detail


def test_missing_arrays(cars):
    del cars[ODD].cell_data["pressure"]
    finding = only(check(cars))
    assert (finding.what, finding.severity) == ("missing array", "error")
    assert "'pressure'" in finding.detail
    cars[ODD].cell_data["pressure"] = np.random.rand(cars[ODD].n_cells, 2)
    assert "2 channels" in only(check(cars)).detail
    wanted = check(cars, arrays=[("point", "velocity")]).findings
    assert len(wanted) == len(cars) and "'velocity'" in wanted[0].detail


def test_values_that_are_not_finite(cars):
    cars[ODD].cell_data["pressure"][[3, 5, 8]] = np.nan, np.inf, -np.inf
    finding = only(check(cars))
    assert (finding.what, finding.severity) == ("nan", "error")
    assert "3 of 192" in finding.detail and len(finding.places) == 3
    cars[ODD] = cars["car_04.vtp"].copy()
    cars[ODD].points *= 1.01
    cars[ODD].field_data["speed"] = np.nan
    findings = check(cars).findings
    assert [f.what for f in findings] == ["nan"] and "speed" in findings[0].detail


def test_constants(cars):
    cars[ODD].cell_data["pressure"][:] = 7.0
    finding = only(check(cars))
    assert (finding.what, finding.severity) == ("constant", "error")
    assert " 7 everywhere" in finding.detail
    for car in cars.values():
        car.cell_data["pressure"][:] = 7.0
    finding = only(check(cars), mesh="")
    assert (finding.what, finding.severity) == ("constant", "warning")


def test_digits_of_single_precision(cars):
    pressure = cars[ODD].cell_data["pressure"]
    for car in cars.values():  # else the mean is an outlier, too
        car.cell_data["pressure"] = car.cell_data["pressure"] + 1e7
    assert check(cars, ignore=["offset"]).findings == ()
    shifted = (pressure + 1e7).astype(np.float32)
    cars[ODD].cell_data["pressure"] = shifted
    finding = only(check(cars, ignore=["offset"]))
    assert (finding.what, finding.severity) == ("precision", "warning")
    assert "float32" in finding.detail


def test_a_field_that_varies_little_about_a_large_mean(cars):
    for car in cars.values():
        car.cell_data["pressure"] = car.cell_data["pressure"] + 101325.0
    finding = only(check(cars), mesh="")
    assert (finding.what, finding.severity) == ("offset", "warning")
    values = np.concatenate([car.cell_data["pressure"] for car in cars.values()])
    assert f"{values.std() / values.mean():.2g}" in finding.detail


def test_outliers(cars):
    cars[ODD].cell_data["pressure"] += 1e4
    finding = only(check(cars))
    assert (finding.what, finding.severity) == ("outliers", "warning")
    assert f"{cars[ODD]['pressure'].mean():.4g}" in finding.detail
    few = {name: cars[name] for name in sorted(cars)[:8]}
    assert check(few).findings == ()  # too few to tell
    cars[ODD].cell_data["pressure"] -= 1e4
    for number, car in enumerate(cars.values()):
        car.field_data["speed"] = 38.0 + 0.1 * number
    cars[ODD].field_data["speed"] = 140.0
    finding = only(check(cars))
    assert finding.what == "outliers" and "speed is 140" in finding.detail


def test_a_spike_within_a_field():
    ball = pv.Sphere(theta_resolution=40, phi_resolution=40)
    ball.cell_data["p"] = ball.cell_centers().points[:, 0] ** 3
    ball.clear_point_data()
    assert run_alone(ball) == ()
    ball.cell_data["p"][[10, 20]] = 40.0, -30.0
    (finding,) = run_alone(ball)
    assert finding.what == "outliers" and len(finding.places) == 2
    assert "2 values from -30 to 40" in finding.detail


def run_alone(mesh):
    from torch_geometric_flare import mesh_io

    before, mesh_io.read_mesh = mesh_io.read_mesh, lambda path, **_: mesh
    try:
        return check_meshes({"all": [Path("a.vtp")]}).findings
    finally:
        mesh_io.read_mesh = before


def test_inverted_cells():
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1.0]])
    right, wrong = [4, 0, 1, 2, 3], [4, 1, 3, 2, 4]
    for cells, severity in (
        ([right, [4, 1, 2, 3, 4]], None),
        ([right, wrong], "error"),
        ([[4, 1, 0, 2, 3]], "warning"),
    ):
        grid = pv.UnstructuredGrid(
            np.concatenate(cells), [vtk.VTK_TETRA] * len(cells), points
        )
        found = run_alone(grid)
        assert [f.severity for f in found] == ([severity] if severity else [])
        assert not found or found[0].what == "inverted cells"


def test_duplicates(cars):
    assert check(cars).findings == ()
    cars["car_13.vtp"] = cars["car_02.vtp"].copy()  # of the other split
    finding = only(check(cars), mesh="car_13.vtp")
    assert (finding.what, finding.severity) == ("duplicates", "error")
    assert "car_02.vtp (train)" in finding.detail and "(test)" in finding.detail
    # Other numbers of cells and points, the same mesh.
    turned = cars["car_02.vtp"].extract_cells(np.arange(192)[::-1])
    for data in (turned.cell_data, turned.point_data):
        for name in ("vtkOriginalCellIds", "vtkOriginalPointIds"):
            data.pop(name, None)
    cars["car_13.vtp"] = turned.extract_surface(algorithm="dataset_surface")
    for name in ("vtkOriginalCellIds", "vtkOriginalPointIds"):
        cars["car_13.vtp"].cell_data.pop(name, None)
        cars["car_13.vtp"].point_data.pop(name, None)
    cars["car_13.vtp"].field_data["speed"] = cars["car_02.vtp"].field_data["speed"]
    cars["car_13.vtp"].points = cars["car_13.vtp"].points.astype(np.float64)
    findings = check(cars).findings
    assert [f.severity for f in findings if f.what == "duplicates"] != []
    cars["car_13.vtp"] = cars["car_02.vtp"].copy()
    cars["car_13.vtp"].field_data["speed"] = 30.0
    finding = only(check(cars, ignore=["outliers"]), mesh="car_13.vtp")
    assert finding.severity == "warning" and "other conditions" in finding.detail


def test_duplicates_within_a_split(cars):
    cars["car_05.vtp"] = cars["car_02.vtp"].copy()
    finding = only(check(cars), mesh="car_05.vtp")
    assert (finding.what, finding.severity) == ("duplicates", "warning")


def test_near_duplicates(cars):
    fine = cars["car_02.vtp"].triangulate().subdivide(1)
    fine.cell_data["pressure"] = np.resize(cars["car_02.vtp"]["pressure"], fine.n_cells)
    fine.field_data["speed"] = cars["car_02.vtp"].field_data["speed"]
    fine.points += 1e-4
    cars["car_13.vtp"] = fine
    finding = only(check(cars), mesh="car_13.vtp")
    assert (finding.what, finding.severity) == ("duplicates", "warning")
    assert "nearly the shape of car_02.vtp" in finding.detail
    one, other = pv.Sphere(radius=1.0), pv.Sphere(radius=1.1)
    assert surface_distance(one, other) == pytest.approx(0.1, rel=0.05)


def test_meshes_of_one_grid_are_no_duplicates(cars):
    first = cars["car_00.vtp"]
    for number, name in enumerate(sorted(cars)):
        cars[name] = first.copy()
        cars[name].cell_data["pressure"] += 10.0 * number
    assert check(cars).findings == ()


def test_predictions_are_no_data(cars):
    add_notes(cars[ODD], {"provenance": "predicted by FLARE, trained on cars"})
    finding = only(check(cars))
    assert (finding.what, finding.severity) == ("predicted", "error")


def test_forces(cars):
    given = GivenForces("pressure", **FLOW)
    for car in cars.values():
        forces = mesh_forces(car, **FLOW)
        car.field_data["drag"], car.field_data["lift"] = forces["drag"], forces["lift"]
    assert check(cars, forces=given).findings == ()
    cars[ODD].field_data["drag"] = 1.5 * mesh_forces(cars[ODD], **FLOW)["drag"]
    finding = only(check(cars, forces=given))
    assert (finding.what, finding.severity) == ("forces", "error")
    assert "drag" in finding.detail and "1.5 of it" in finding.detail
    assert check(cars).findings == ()  # nothing to refer to


@pytest.mark.parametrize("sign", [1, -1])
def test_forces_with_friction(cars, sign):
    car = cars[ODD]
    stress = sign * np.tile((3.0, 0.0, 0.0), (car.n_cells, 1))
    friction = 3.0 * float(mesh_areas(car, cells=True).double().sum())
    friction /= 0.5 * 38.889**2 * 2.17
    for other in cars.values():
        other.cell_data["shear"] = np.resize(stress, (other.n_cells, 3))
    table = {ODD: {"drag": mesh_forces(car, **FLOW)["drag"] + friction}}
    name = "shear" if sign > 0 else "-shear"
    given = GivenForces("pressure", shear=name, tolerance=1e-6, table=table, **FLOW)
    ignore = ["constant"]
    assert check(cars, forces=given, ignore=ignore).findings == ()
    without = GivenForces("pressure", tolerance=1e-6, table=table, **FLOW)
    assert only(check(cars, forces=without, ignore=ignore)).what == "forces"


def test_unreadable(cars, monkeypatch):
    def read(path, **_):
        if path.name == ODD:
            raise ValueError(f"mesh={path.name!r} is broken")
        return cars[path.name].copy()

    monkeypatch.setattr("torch_geometric_flare.mesh_io.read_mesh", read)
    finding = only(check(cars))
    assert (finding.what, finding.severity) == ("unreadable", "error")


def test_checks_can_be_left_out(cars):
    cars[ODD].points *= 1000.0
    assert check(cars, ignore=["units"]).findings == ()
    with pytest.raises(ValueError, match="'unit'"):
        check(cars, ignore=["unit"])
    with pytest.raises(ValueError, match="splits"):
        check_meshes({"train": []})


def test_each_check_has_a_test():
    text = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in CHECKS if f'"{name}"' not in text] == []
