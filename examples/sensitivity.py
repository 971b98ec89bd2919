"""Move cars along the gradient of their drag, and check with the simulator.

    python examples/drivaerml.py                                 # train it, minutes
    python examples/sensitivity.py runs/drivaerml-.../last.ckpt

For some simulated test cars, computes the derivative of the predicted drag by every
vertex of the panels, smoothed and made symmetric, moves the car along it by at most
`--step` meters, and compares the simulator's drag before and after. Writes a table of
all cars to `sensitivity.json` in the folder of the checkpoint, the derivatives on the
first car to `sensitivity.vtp`, and a plot of them to `sensitivity.png`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pyvista as pv
from scipy.spatial import cKDTree

from torch_geometric_flare.datasets.simulator import sample_rng
from torch_geometric_flare.mesh_io import save_dataset
from torch_geometric_flare.simulation import Notchback, NotchbackShape
from torch_geometric_flare.surrogates import Flow, load_surrogate
from torch_geometric_flare.training import add_threads_option, user_errors
from torch_geometric_flare.visualization import plot_sensitivity

FLIP = np.array((1.0, -1.0, 1.0))


def as_mesh(surface):
    """The panels of a car, with neither normals nor areas: these are to move."""
    faces = []
    for cell in surface["cells"]:
        corners = dict.fromkeys(cell.tolist())
        faces += [len(corners), *corners]
    return pv.PolyData(surface["points"], faces=faces)


def drag(flow):
    """Drag coefficient of both halves of a car, as the simulator computes it."""
    force = (flow.pressure_coefficient * flow.normals[..., 0] * flow.areas).sum()
    return float(-2 * force / Notchback.reference_area)


def symmetric(points, vectors):
    """The mean of vectors and their mirror images in the plane y = 0."""
    other = cKDTree(points).query(points * FLIP)[1]
    return (vectors + vectors[other] * FLIP) / 2


def move(lattice, points, displacement):
    """The lattice of a half car, moved by the displacement of the mesh's vertices."""
    distance, vertex = cKDTree(points).query(lattice.reshape(-1, 3))
    assert distance.max() < 1e-6
    return lattice + displacement[vertex].reshape(lattice.shape)


def improve(surrogate, simulator, index, args):
    """Sensitivities of one car, and its drag before and after the step."""
    shape = NotchbackShape.sample(sample_rng(0, "test", index))
    before = simulator.solve(shape)
    mesh = as_mesh(simulator.surface_of(before))
    found = surrogate.sensitivity(
        mesh,
        "drag",
        flow=Flow(speed=simulator.speed, reference_area=simulator.reference_area),
        smoothing=args.smoothing,
        location="cell",
    )
    points = np.asarray(found.mesh.points)
    direction = symmetric(points, np.asarray(found.mesh["drag_displacement"]))
    displacement = args.step * direction / np.linalg.norm(direction, axis=1).max()
    expected = float((np.asarray(found.mesh["drag_gradient"]) * displacement).sum())
    after, back = (
        simulator.solve_lattice(move(before.lattice, points, sign * displacement))
        for sign in (1, -1)
    )
    row = {
        "car": index,
        "drag": drag(before),
        "predicted_drag": found.value,
        "expected_change": expected,
        "change": drag(after) - drag(before),
        "change_backwards": drag(back) - drag(before),
    }
    return row, found.mesh


def main(argv=None):
    """Measure all cars."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("checkpoint", type=Path, help="checkpoint of a training on simulated cars")
    add("--cars", type=int, default=10, help="number of test cars")
    add("--step", type=float, default=0.01, help="largest displacement in m")
    add("--smoothing", type=float, default=0.2, help="smoothing length in m")
    add(
        "--panels",
        type=int,
        nargs=2,
        default=(64, 24),
        help="along and around the car",
    )
    add_threads_option(parser)
    args = parser.parse_args(argv)
    surrogate = load_surrogate(args.checkpoint)
    simulator = Notchback(panels_along=args.panels[0], panels_around=args.panels[1])
    rows = []
    print("car    drag  predicted  expected change  simulated change  backwards")
    for index in range(args.cars):
        row, mesh = improve(surrogate, simulator, index, args)
        rows.append(row)
        print(
            f"{index:3}  {row['drag']:.4f}     {row['predicted_drag']:.4f}  "
            f"{row['expected_change']:+15.5f}  {row['change']:+16.5f}  "
            f"{row['change_backwards']:+9.5f}",
            flush=True,
        )
        if index == 0:
            title = "Simulated car: displacement that lowers the drag"
            figure = plot_sensitivity(mesh, "drag", title=title, flow=(1, 0, 0))
            figure.savefig(args.checkpoint.with_name("sensitivity.png"), dpi=100)
            save_dataset(mesh, args.checkpoint.with_name("sensitivity.vtp"))
    lower = sum(row["change"] < 0 for row in rows)
    print(f"the simulated drag falls for {lower} of {len(rows)} cars")
    text = json.dumps(rows, indent=2) + "\n"
    args.checkpoint.with_name("sensitivity.json").write_text(text, encoding="utf-8")
    return rows


if __name__ == "__main__":
    with user_errors():
        main()
