"""Learn the surface pressure of cars, on simulated notchbacks or on DrivAerML.

    python examples/drivaerml.py                                   # simulated, minutes
    python examples/drivaerml.py --data official --recipe paper    # downloads DrivAerML

Writes metrics, plots, a file for ParaView and the checkpoint to a folder in `runs`.
Official cars also have wall shear stress: `--fields pressure,wall_shear_stress` learns
both, each with its relative error.
"""

from torch_geometric_flare.experiments import DRIVAERML, run_command_line


def main(argv=None):
    """Train, evaluate, plot."""
    run_command_line(DRIVAERML, __doc__, argv)


if __name__ == "__main__":
    main()
