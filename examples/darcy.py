"""Learn the pressure in porous media, simulated or from the official data set.

    python examples/darcy.py                                  # simulated, minutes
    python examples/darcy.py --data official --recipe paper   # downloads it

Writes metrics, plots, a file for ParaView and the checkpoint to a folder in `runs`.
Simulated flows are on grids of 43 x 43; `--num-points 7225` gives the official 85 x 85.
The loss includes the field's derivatives, as in the paper.
"""

from torch_geometric_flare.experiments import DARCY, run_command_line


def main(argv=None):
    """Train, evaluate, plot."""
    run_command_line(DARCY, __doc__, argv)


if __name__ == "__main__":
    main()
