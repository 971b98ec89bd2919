"""Learn transonic flow around airfoils: on simulated airfoils, or the official set.

    python examples/airfoil.py                                  # simulated, minutes
    python examples/airfoil.py --data official --recipe paper   # downloads it

Writes metrics, pictures, a file for ParaView and the checkpoint to a folder in `runs`.
Simulated airfoils are taken at every second point of the grid; `--num-points 11271`
takes all.
"""

from torch_geometric_flare.experiments import AIRFOIL, run_command_line


def main(argv=None):
    """Train, measure, draw."""
    run_command_line(AIRFOIL, __doc__, argv)


if __name__ == "__main__":
    main()
