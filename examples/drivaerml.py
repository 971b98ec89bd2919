"""Learn the surface pressure of cars: on simulated notchbacks, or on DrivAerML.

    python examples/drivaerml.py                                   # simulated, minutes
    python examples/drivaerml.py --data official --recipe paper    # downloads DrivAerML

Writes metrics, pictures, a file for ParaView and the checkpoint to a folder in `runs`.
Official cars have wall shear stress too: `--fields pressure,wall_shear_stress` learns
both, each by its own relative error.
"""

from torch_geometric_flare.experiments import DRIVAERML, run_command_line


def main(argv=None):
    """Train, measure, draw."""
    run_command_line(DRIVAERML, __doc__, argv)


if __name__ == "__main__":
    main()
