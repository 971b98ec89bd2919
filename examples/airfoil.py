"""Learn transonic flow around airfoils, simulated or from the official data set.

    python examples/airfoil.py                                  # simulated, minutes
    python examples/airfoil.py --data official --recipe paper   # downloads it

Writes metrics, plots, a file for ParaView and the checkpoint to a folder in `runs`.
Simulated airfoils use every second point of the grid; `--num-points 11271` uses all.
"""

from torch_geometric_flare.experiments import AIRFOIL, run_command_line


def main(argv=None):
    """Train, evaluate, plot."""
    run_command_line(AIRFOIL, __doc__, argv)


if __name__ == "__main__":
    main()
