"""Plot the spectra of a trained surrogate: how many latents each block uses.

    python examples/drivaerml.py                                # train one, minutes
    python examples/spectrum.py runs/drivaerml-.../last.ckpt
    python examples/spectrum.py runs/drivaerml-.../last.ckpt my_car.stl --vectors 3

The same as `tgflare spectrum`. Plots the eigenvalues of the operator of every block and
head on a test sample or on your own meshes, with those of the same network before
training, writes plots and `spectrum.json` to the folder of the checkpoint, and prints
how many latents contain 95 % of the sum of eigenvalues.
"""

from torch_geometric_flare.experiments import spectrum_command_line


def main(argv=None):
    """Compute, draw, say."""
    return spectrum_command_line(__doc__, argv)


if __name__ == "__main__":
    main()
