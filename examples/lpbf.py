"""Learn how printed parts warp, on simulated parts or the official data set.

    python examples/lpbf.py                                  # simulated, minutes
    python examples/lpbf.py --data official --recipe paper   # downloads it

Writes metrics, plots, a file for ParaView and the checkpoint to a folder in `runs`.
Parts have 100 to 20,000 points. The target is the displacement along z in mm; `--fields
displacement,von_mises_stress` learns others, each with its own error.
"""

from torch_geometric_flare.experiments import LPBF, run_command_line


def main(argv=None):
    """Train, evaluate, plot."""
    run_command_line(LPBF, __doc__, argv)


if __name__ == "__main__":
    main()
