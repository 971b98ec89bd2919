"""Learn the stress in blocks with a hole: on simulated blocks, or the official set.

    python examples/elasticity.py                                  # simulated, minutes
    python examples/elasticity.py --data official --recipe paper   # downloads it

Writes metrics, pictures, a file for ParaView and the checkpoint to a folder in `runs`.
The input is the position of 972 points alone: the network sees the hole by where
points are missing.
"""

from torch_geometric_flare.experiments import ELASTICITY, run_command_line


def main(argv=None):
    """Train, measure, draw."""
    run_command_line(ELASTICITY, __doc__, argv)


if __name__ == "__main__":
    main()
