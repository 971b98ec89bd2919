"""Learn viscous flow through pipes, simulated or from the official data set.

    python examples/pipe.py                                  # simulated, minutes
    python examples/pipe.py --data official --recipe paper   # downloads it

Writes metrics, plots, a file for ParaView and the checkpoint to a folder in `runs`.
Each step uses 1,000 random points of the grid; errors are measured at all points.
"""

from torch_geometric_flare.experiments import PIPE, run_command_line


def main(argv=None):
    """Train, evaluate, plot."""
    run_command_line(PIPE, __doc__, argv)


if __name__ == "__main__":
    main()
