"""Train several models on one benchmark with one budget, and write a report.

    python examples/compare.py --dataset elasticity --models FLARE,Transolver
    python examples/compare.py --dataset darcy --seconds 300 --seeds 3

The first command gives every model the epochs of its recipe, the second one the same
time. Each run has a separate process. A folder in `runs` gets the table in Markdown,
CSV and JSON, a plot of error against cost, and `report.html`. All data are simulated
unless `--data official` is given.
"""

from torch_geometric_flare.experiments import run_comparison


def main(argv=None):
    """Compare."""
    run_comparison(__doc__, argv)


if __name__ == "__main__":
    main()
