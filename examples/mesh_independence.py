"""Ask a surrogate for one car on six meshes, with and without weights of points.

    python examples/drivaerml.py                                     # train it, minutes
    python examples/mesh_independence.py runs/drivaerml-.../last.ckpt

The meshes of a simulated test car: the simulator's panels, decimated, refined evenly,
refined sixteenfold at the nose, an STL file with slivers, and a cloud of points. Prints
and writes for each the area-weighted error of the pressure, drag, lift and side force
(zero by symmetry), once with all cells alike and once with each by its area, and draws
the drag.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:  # threads that wait let others run
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np
import pyvista as pv
import torch
from matplotlib.figure import Figure
from scipy.spatial import cKDTree

from torch_geometric_flare.datasets.simulator import sample_rng
from torch_geometric_flare.experiments import DRIVAERML, Selection
from torch_geometric_flare.mesh_io import mesh_areas, mesh_normals, read_mesh
from torch_geometric_flare.simulation import Notchback
from torch_geometric_flare.surrogates import load_surrogate
from torch_geometric_flare.training import add_threads_option, user_errors

NOSE = 0.1  # of the car's length


def refined_nose(triangles):
    """Triangles of the nose as sixteen each, the others as they are."""
    x = triangles.cell_centers().points[:, 0]
    at_nose = x < x.min() + NOSE * np.ptp(x)
    nose, rest = (
        triangles.extract_cells(where).extract_surface(algorithm=None)
        for where in (at_nose, ~at_nose)
    )
    return pv.merge([nose.subdivide(2, "linear"), rest]).extract_surface(algorithm=None)


def with_slivers(triangles, folder):
    """Each third triangle cut in three at a point beside an edge, through an STL."""
    corners = triangles.points[triangles.regular_faces]
    cut = np.arange(len(corners)) % 3 == 0
    a, b, c = corners[cut].transpose(1, 0, 2)
    d = 0.49 * a + 0.49 * b + 0.02 * c
    thirds = [np.stack(part, 1) for part in ((a, b, d), (b, c, d), (c, a, d))]
    soup = np.concatenate([corners[~cut], *thirds]).reshape(-1, 3)
    faces = np.arange(len(soup)).reshape(-1, 3)
    path = Path(folder) / "slivers.stl"
    pv.PolyData.from_regular_faces(soup, faces).save(path)
    return read_mesh(path)


def meshes_of(panels, points, folder):
    """The same car by the name of the mesh."""
    triangles = panels.triangulate()
    return {
        "panels": panels,
        "decimated": triangles.decimate(0.6),
        "refined evenly": triangles.subdivide(1, "linear"),
        "nose refined": refined_nose(triangles),
        "STL with slivers": with_slivers(triangles, folder),
        "cloud of points": pv.PolyData(points),
    }


def measure(predicted, panels, truth):
    """Error and force coefficients; of a cloud, those of its mean over each panel."""
    if predicted.n_cells == predicted.n_verts:
        panel = panels.find_closest_cell(predicted.points)
        pressure = predicted.point_data["pressure"]
        counts = np.bincount(panel, minlength=panels.n_cells)
        sums = np.bincount(panel, pressure, minlength=panels.n_cells)
        nearest = cKDTree(predicted.points).query(panels.cell_centers().points)[1]
        on_panels = np.where(
            counts > 0, sums / np.maximum(counts, 1), pressure[nearest]
        )
        predicted = panels.copy()
        predicted.cell_data["pressure"] = on_panels
    pressure = torch.tensor(predicted.cell_data["pressure"], dtype=torch.float64)
    true = torch.from_numpy(truth(predicted.cell_centers().points))
    area = mesh_areas(predicted, cells=True)[:, 0].double()
    normal = mesh_normals(predicted, cells=True).double()
    error = ((pressure - true).square() @ area / (true.square() @ area)).sqrt()
    unit = 0.5 * Notchback().speed ** 2 * Notchback.reference_area
    drag, side, lift = (-(pressure * area) @ normal / unit).tolist()
    return {"error": error.item(), "drag": drag, "lift": lift, "side": side}


def draw(rows, folder):
    """The drag on all meshes, with weights and without."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axis = figure.subplots()
    for weight, marker in (("none", "o"), ("area", "s")):
        chosen = [row for row in rows if row["weights"] == weight]
        names = [row["mesh"] for row in chosen]
        label = "all points alike" if weight == "none" else "by area"
        axis.plot(names, [row["drag"] for row in chosen], marker, label=label)
    axis.set(
        ylabel="drag coefficient", title="Simulated car, one surrogate, six meshes"
    )
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.tick_params(axis="x", rotation=20)
    axis.legend(loc="lower right")
    figure.savefig(folder / "mesh_independence.png", dpi=130)


@user_errors()
def main(argv=None):
    """Predict on all meshes, print, write, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--car", type=int, default=0, help="place in the test split")
    add_threads_option(parser)
    args = parser.parse_args(argv)
    surrogate = load_surrogate(args.checkpoint)
    panels = DRIVAERML.surface(Selection(), args.car)
    # The truth between the panels, as the simulator interpolates it.
    dense, few = (
        Notchback(num_points=count).sample(sample_rng(0, "test", args.car))
        for count in (400_000, 10_000)
    )
    tree = cKDTree(dense["pos"])

    def truth(places):
        return dense["pressure"][tree.query(places)[1], 0]

    exact = panels.copy()
    exact.cell_data["pressure"] = truth(panels.cell_centers().points)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, mesh in meshes_of(panels, few["pos"], folder).items():
            location = "point" if mesh.n_cells == mesh.n_verts else "cell"
            points = mesh.n_points if location == "point" else mesh.n_cells
            for weight in ("none", "area"):
                predicted = surrogate.predict_mesh(
                    mesh, location=location, weight=weight
                )
                found = measure(predicted, panels, truth)
                rows.append(
                    {"mesh": name, "points": points, "weights": weight, **found}
                )
                show(rows[-1])
    show({"mesh": "truth", "points": panels.n_cells, **measure(exact, panels, truth)})
    folder = args.checkpoint.parent
    with (folder / "mesh_independence.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    draw(rows, folder)
    print(f"{folder}: mesh_independence.csv, mesh_independence.png")
    return rows


def show(row):
    """Print a line of the table."""
    print(
        ", ".join(
            f"{name} {value:.4f}" if isinstance(value, float) else f"{value}"
            for name, value in row.items()
        )
    )


if __name__ == "__main__":
    main()
