"""Learn the stress in blocks with a hole, simulated or from the official data set.

    python examples/elasticity.py                                  # simulated, minutes
    python examples/elasticity.py --data official --recipe paper   # downloads it

Writes metrics, plots, a file for ParaView and the checkpoint to a folder in `runs`.
The only input is the position of 972 points: the network sees the hole because points
are missing there.
"""

from torch_geometric_flare.experiments import ELASTICITY, run_command_line


def main(argv=None):
    """Train, evaluate, plot."""
    run_command_line(ELASTICITY, __doc__, argv)


if __name__ == "__main__":
    main()
