"""Predict one car on six meshes, with and without point weights.

    python examples/drivaerml.py                                     # train it, minutes
    python examples/mesh_independence.py runs/drivaerml-.../last.ckpt

The meshes of a simulated test car: the simulator's panels, decimated, refined evenly,
refined sixteenfold at the nose, an STL file with slivers, and a cloud of points. For
each mesh, prints and writes the area-weighted error of the pressure, drag, lift and
side force (zero by symmetry), with equal weights and with area weights, and plots them.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:  # waiting threads yield the CPU
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import argparse
import json
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
NAMES = {"none": "equal weights", "area": "area weights"}


def refined_nose(triangles):
    """Triangles of the nose as sixteen each, the others as they are."""
    x = triangles.cell_centers().points[:, 0]
    at_nose = x < x.min() + NOSE * np.ptp(x)
    parts = (triangles.extract_cells(where) for where in (at_nose, ~at_nose))
    nose, rest = (part.extract_surface(algorithm=None) for part in parts)
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
        "point cloud": pv.PolyData(points),
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


def draw(rows, true_drag, folder):
    """Error of the pressure and of the drag on all meshes."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for shift, weight in zip((-0.2, 0.2), NAMES, strict=True):
        chosen = [row for row in rows if row["weights"] == weight]
        places = np.arange(len(chosen)) + shift
        left.bar(places, [row["error"] for row in chosen], 0.4, label=NAMES[weight])
        drag = [100 * (row["drag"] / true_drag - 1) for row in chosen]
        right.bar(places, drag, 0.4)
    titles = "relative L2 error of the pressure", "error of the drag, %"
    for axis, title in zip((left, right), titles, strict=True):
        names = [row["mesh"] for row in chosen]
        axis.set_xticks(range(len(names)), names, rotation=30, ha="right")
        axis.set_title(f"{title}, simulated car")
    left.legend()
    figure.savefig(folder / "mesh_independence.png", dpi=130)


@user_errors()
def main(argv=None):
    """Predict on all meshes, print, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", type=Path, help="of a training on simulated cars")
    parser.add_argument("--car", type=int, default=0, help="index in the test split")
    add_threads_option(parser)
    args = parser.parse_args(argv)
    surrogate = load_surrogate(args.checkpoint)
    panels = DRIVAERML.surface(Selection(), args.car)
    dense, few = (
        Notchback(num_points=count).sample(sample_rng(0, "test", args.car))
        for count in (400_000, 10_000)
    )
    tree = cKDTree(dense["pos"])

    def truth(places):
        return dense["pressure"][tree.query(places)[1], 0]

    panels.cell_data["pressure"] = truth(panels.cell_centers().points)
    exact = measure(panels, panels, truth)
    rows = [{"mesh": "truth", "weights": "", "points": panels.n_cells, **exact}]
    with tempfile.TemporaryDirectory() as folder:
        for name, mesh in meshes_of(panels, few["pos"], folder).items():
            location = "point" if mesh.n_cells == mesh.n_verts else "cell"
            for weight in NAMES:
                predicted = surrogate.predict_mesh(
                    mesh, location=location, weight=weight
                )
                points = getattr(predicted, f"n_{location}s")
                row = {"mesh": name, "weights": weight, "points": points}
                rows.append({**row, **measure(predicted, panels, truth)})
    for row in rows:
        numbers = [f"{name} {row[name]:.4f}" for name in exact]
        print(", ".join([row["mesh"], row["weights"], str(row["points"]), *numbers]))
    folder = args.checkpoint.parent
    (folder / "mesh_independence.json").write_text(json.dumps(rows, indent=2) + "\n")
    draw(rows, exact["drag"], folder)
    print(f"{folder}: mesh_independence.json, mesh_independence.png")
    return rows


if __name__ == "__main__":
    main()
