"""Learn viscous flow through pipes: on simulated pipes, or the official set.

    python examples/pipe.py                                  # simulated, minutes
    python examples/pipe.py --data official --recipe paper   # downloads it

Writes metrics, pictures, a file for ParaView and the checkpoint to a folder in `runs`.
Each step sees 1,000 random points of the grid; errors are measured at all of them.
"""

from torch_geometric_flare.experiments import PIPE, run_command_line


def main(argv=None):
    """Train, measure, draw."""
    run_command_line(PIPE, __doc__, argv)


if __name__ == "__main__":
    main()
