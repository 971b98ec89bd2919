"""Combine the plots of the newest run of every benchmark in one picture.

    python examples/gallery.py                       # of the folders in runs
    python examples/gallery.py --output gallery.png

Each run, such as `python examples/darcy.py`, must have written its plot.
"""

import argparse
import sys
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.image import imread

from torch_geometric_flare.experiments import (
    AIRFOIL,
    DARCY,
    DRIVAERML,
    ELASTICITY,
    LPBF,
    PIPE,
)
from torch_geometric_flare.training import user_errors

BENCHMARKS = (DRIVAERML, LPBF, ELASTICITY, DARCY, AIRFOIL, PIPE)
WIDTH = 18.0  # inches


def newest_pictures(runs):
    """The picture of the newest run of each benchmark that has one."""
    found = {}
    for benchmark in BENCHMARKS:
        pictures = Path(runs).glob(f"{benchmark.name}-*/{benchmark.picture}.png")
        newest = max(pictures, key=lambda path: path.stat().st_mtime, default=None)
        if newest is not None:
            found[benchmark.name] = newest
    return found


def draw(pictures):
    """Two columns of pictures, each column packed from the top."""
    images = {name: imread(path) for name, path in pictures.items()}
    heights = {name: image.shape[0] / image.shape[1] for name, image in images.items()}
    columns, filled = ([], []), [0.0, 0.0]
    for name in sorted(images, key=heights.get, reverse=True):
        shorter = int(filled[1] < filled[0])
        columns[shorter].append(name)
        filled[shorter] += heights[name]
    height = max(filled)
    figure = Figure(figsize=(WIDTH, WIDTH / 2 * height))
    for number, column in enumerate(columns):
        top = 1.0
        for name in column:
            share = heights[name] / height
            axis = figure.add_axes((number / 2, top - share, 0.5, share))
            axis.imshow(images[name])
            axis.set_axis_off()
            top -= share
    return figure


@user_errors()
def main(argv=None):
    """Read the command line, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", default="runs", help="folder of the runs")
    parser.add_argument("--output", default="gallery.png", help="picture to write")
    args = parser.parse_args(argv)
    pictures = newest_pictures(args.runs)
    if not pictures:
        print(f"error: '{args.runs}' holds no run with a picture", file=sys.stderr)
        return 2
    draw(pictures).savefig(args.output, dpi=100)
    print(f"{args.output}: {', '.join(sorted(map(str, pictures.values())))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
