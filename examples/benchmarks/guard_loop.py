"""The comparison that `guard.py`, `guard_darcy.py` and `guard_airfoil.py` share.

A guard of the surrogate, and the same distances of plain statistics, are fitted to the
same training samples and get their thresholds from the same held-out ones.
"""

import json

import numpy as np
import torch
from matplotlib.figure import Figure

from torch_geometric_flare.metrics import relative_l2
from torch_geometric_flare.surrogates import Guard

LEVEL = 0.95  # 5 % false alarms


def moments(rows):
    """Means and covariances of the columns of a sample, as a row."""
    rows = rows.double()
    covariance = torch.cov(rows.T)
    upper = tuple(torch.triu_indices(*covariance.shape))
    return torch.cat([rows.mean(0), covariance[upper]])[None]


def outside_box(lower, upper, pos):
    """Whether `predict_mesh` would warn about the box of the training."""
    return bool(((pos >= lower) & (pos <= upper)).all(1).float().mean() < 0.8)


def compare(surrogate, train, held_out, kinds, statistics, is_outside=None):
    """Print a line for each kind of samples: the shares that are detected.

    Args:
        surrogate: The surrogate, whose guard is fitted anew.
        train: Its training samples.
        held_out: Samples of the same kind.
        kinds: Samples by name of their kind; those without a true field have no `y`.
        statistics: Makes a row of numbers of a sample.
        is_outside: Tells whether a sample lies outside of the box.

    Returns:
        The lines, and pairs of distance and error of each sample by kind.
    """
    guard = surrogate.fit_guard(train, held_out)
    plain = Guard.fit(*(torch.cat([*map(statistics, s)]) for s in (train, held_out)))
    print(guard.basis)
    lines, points = [], {}
    for kind, samples in kinds.items():
        told = {"guard": [], "box": [], "statistics": []}
        for data in samples:
            predicted, row = surrogate.predict_with_summary(data)
            distance = guard.measure(row)[0].item()
            of_points = plain.measure(statistics(data))[0].item()
            told["guard"].append(distance > guard.threshold(LEVEL))
            told["statistics"].append(of_points > plain.threshold(LEVEL))
            if is_outside is not None:
                told["box"].append(is_outside(data))
            if data.y is not None:
                error = relative_l2(predicted, data.y).item()
                points.setdefault(kind, []).append((distance, error))
        shares = {name: float(np.mean(each)) for name, each in told.items() if each}
        line = {"kind": kind, **shares}
        if kind in points:
            line["mean_error"] = float(np.mean([error for _, error in points[kind]]))
        lines.append(line)
        print(json.dumps(line), flush=True)
    return lines, points


def write(path, lines, points, *, field, title):
    """Write the lines as JSON, and draw the error of each sample by its distance.

    Args:
        path: Without suffix.
        lines: Of `compare`.
        points: Of `compare`.
        field: What the error is of.
        title: Heading of the picture.
    """
    path.with_suffix(".json").write_text(json.dumps(lines, indent=2) + "\n")
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, pairs in points.items():
        axes.scatter(*zip(*pairs, strict=True), s=12, label=name)
    axes.set(xscale="log", yscale="log", xlabel="distance in latent states")
    axes.set_ylabel(f"relative L2 error of the {field}")
    axes.set_title(title)
    axes.legend(fontsize=7)
    figure.savefig(path.with_suffix(".png"), dpi=150)
