"""Compare ways to predict a car in parts, by drag and error.

    python examples/chunk_exactness.py            # trains on simulated cars, minutes
    python examples/chunk_exactness.py --checkpoint runs/drivaerml-.../last.ckpt

The points of a simulated test car are predicted n at a time: in independent blocks of
neighbors or of shuffled points, from a single random subset, and in chunks
(`chunk_size`), whose states are merged. Prints, writes and plots drag and error.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:  # waiting threads yield the CPU
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import argparse
import json
import statistics
from pathlib import Path

import torch
from matplotlib.figure import Figure
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from torch_geometric_flare.datasets import sample_rng
from torch_geometric_flare.experiments import RunConfig, run_benchmark
from torch_geometric_flare.metrics import force_coefficients, relative_l2
from torch_geometric_flare.simulation import Notchback
from torch_geometric_flare.surrogates import load_surrogate
from torch_geometric_flare.training import add_threads_option, run_folder, user_errors

PARTS = (200, 100, 40, 20, 10, 4, 2, 1)  # of the car's points, one of so many at a time
RULE = "|---:|---|---:|---:|---:|"
CROSS = {"ls": "", "marker": "x", "alpha": 0.6}
STYLES = {
    "blocks of neighbors": {"color": "tab:orange", **CROSS},
    "shuffled blocks": {"color": "tab:green", **CROSS, "marker": "+"},
    "random subset": {"color": "tab:purple", **CROSS},
    "chunks": {"color": "tab:blue", "marker": "o"},
}
TITLES = {
    "drag": "drag coefficient",
    "relative_l2": "relative L2 error of the pressure",
    "relative_l2_to_whole": "relative L2 distance to all points at once",
}


def neighbors(pos, seed):
    """An order in which consecutive points are neighbors: the leaves of a k-d tree."""
    turn = Rotation.random(random_state=seed).as_matrix()
    return torch.from_numpy(cKDTree(pos.numpy() @ turn.T, leafsize=16).indices)


def in_blocks(surrogate, pos, order, size):
    """Predict blocks of consecutive points in some order independently."""
    found = torch.empty(len(pos), 1)
    found[order] = torch.cat([surrogate.predict(pos[o]) for o in order.split(size)])
    return found


def ways(surrogate, pos, size, seeds):
    """Yield name, seed, the points predicted and their pressure."""
    everything = torch.arange(len(pos))
    surrogate.model.chunk_size = size
    yield "chunks", 0, everything, surrogate.predict(pos)
    surrogate.model.chunk_size = None
    for seed in range(seeds):
        draw = torch.randperm(len(pos), generator=torch.Generator().manual_seed(seed))
        orders = {"blocks of neighbors": neighbors(pos, seed), "shuffled blocks": draw}
        for name, order in orders.items():
            yield name, seed, everything, in_blocks(surrogate, pos, order, size)
        yield "random subset", seed, draw[:size], surrogate.predict(pos[draw[:size]])


def drag_of(pressure, car, points):
    """The drag coefficient of points that stand for the whole car."""
    sizes = {"speed": Notchback().speed, "reference_area": Notchback.reference_area}
    sizes["total_area"] = car["area"].sum().item()
    body = car["normal"][points], car["area"][points]
    return force_coefficients(pressure, *body, **sizes).drag.item()


def measure(surrogate, car, seeds):
    """A row for each way, number of points at a time, and seed; drag of the whole."""
    pos, truth = car["pos"].float(), car["pressure"]
    whole, everything = surrogate.predict(pos), torch.arange(len(pos))
    rows = []
    for size in (len(pos) // part for part in PARTS):
        for way, seed, points, found in ways(surrogate, pos, size, seeds):
            row = {"way": way, "points_at_a_time": size, "seed": seed}
            row["drag"] = drag_of(found, car, points)
            row["relative_l2"] = relative_l2(found.double(), truth[points]).item()
            row["relative_l2_to_whole"] = relative_l2(found, whole[points]).item()
            rows.append(row)
    return rows, drag_of(whole, car, everything)


def table(rows, drag):
    """Lines of Markdown: the mean error, and the largest change of drag."""
    lines = ["| Points | Method | Error | Largest drag change | To whole |", RULE]
    for size, way in dict.fromkeys((r["points_at_a_time"], r["way"]) for r in rows):
        of = [r for r in rows if (r["points_at_a_time"], r["way"]) == (size, way)]
        error = statistics.mean(row["relative_l2"] for row in of)
        change = max(abs(100 * (row["drag"] / drag - 1)) for row in of)
        off = statistics.mean(row["relative_l2_to_whole"] for row in of)
        lines += [f"| {size:,} | {way} | {error:.4f} | {change:.2g} % | {off:.1g} |"]
    return "\n".join(lines)


def draw(results, path):
    """Drag, error, and distance to all points at once."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    figure.suptitle("One simulated car, one surrogate")
    axes = figure.subplots(1, 3)
    for axis, (key, title) in zip(axes, TITLES.items(), strict=True):
        for way, style in STYLES.items():
            rows = [row for row in results["rows"] if row["way"] == way]
            sizes = [row["points_at_a_time"] for row in rows]
            axis.plot(sizes, [row[key] or None for row in rows], label=way, **style)
        axis.set(xscale="log", yscale="linear" if key == "drag" else "log", title=title)
        axis.set_xlabel(f"points at a time, of {results['points']:,}")
    axes[0].axhline(results["true_drag"], color="grey", ls=":", label="truth")
    axes[0].legend()
    figure.savefig(path, dpi=130)


@user_errors()
def main(argv=None):
    """Train if need be, measure, print, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--checkpoint", type=Path, help="checkpoint; by default of a new training")
    add("--points", type=int, default=100_000, help="points of the car; default 100000")
    add("--seeds", type=int, default=5, help="draws of blocks and subsets; default 5")
    add_threads_option(parser)
    args = parser.parse_args(argv)
    if args.points < PARTS[0] or args.seeds < 1:
        parser.error(f"--points must be at least {PARTS[0]} and --seeds 1")
    folder = run_folder(Path("runs", "chunk_exactness-simulated"))
    checkpoint = args.checkpoint or folder / "training" / "last.ckpt"
    if args.checkpoint is None:
        run_benchmark(RunConfig(problem="drivaerml", folder=str(checkpoint.parent)))
    car = Notchback(num_points=args.points).sample(sample_rng(0, "test", 0))
    car = {name: torch.from_numpy(values) for name, values in car.items()}
    rows, drag = measure(load_surrogate(checkpoint), car, args.seeds)
    true_drag = drag_of(car["pressure"], car, torch.arange(args.points))
    facts = {"data": "simulated", "points": args.points, "drag": drag}
    results = {**facts, "true_drag": true_drag, "rows": rows}
    (folder / "chunk_exactness.json").write_text(json.dumps(results, indent=2) + "\n")
    draw(results, folder / "chunk_exactness.png")
    print(table(rows, drag))
    print(f"drag: true {true_drag:.4f}, predicted with all points at once {drag:.4f}")
    print(f"{folder}: chunk_exactness.json, chunk_exactness.png")
    return results


if __name__ == "__main__":
    main()
