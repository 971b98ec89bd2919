"""Flow through pipes of random shape (Geo-FNO)."""

from typing import ClassVar

from torch_geometric_flare.datasets.geo_fno import GeoFNOFlow
from torch_geometric_flare.fields import Field, Fields


class Pipe(GeoFNOFlow):
    r"""Velocity along x in a curved 2-D pipe, on a grid of 129 by 129 points.

    The steady incompressible Navier-Stokes equations in a channel of length 10 and
    width 1 with random bends, at a viscosity of 0.005 and a parabolic inflow of maximum
    1. Source: Geo-FNO (Li et al., 2022, <https://arxiv.org/abs/2207.05209>). The FLARE
    papers read it from `vedantpuri/PDESurrogates` on the Hugging Face hub: 1000 samples
    to train on and 200 to test.

    A sample has

    - `pos` [16641, 2], the grid's points row by row, as in the files, in widths of the
      pipe;
    - `x` [16641, 2], the same as `pos`;
    - `y` [16641, 1], the velocity along x as in the file, in units of the largest
      velocity of the inflow;
    - `grid`, (129, 129).

    The files state no units; these follow from the paper. The papers normalize both `x`
    and `y` by means and standard deviations of the training split:
    `Normalizer.gaussian`, which omits the 1e-8 that they add to the standard deviation.

    The archive `Geo-FNO.tar.gz` is downloaded (`pip install ".[data]"`) and unpacked on
    first use. Without a connection, manually place either the archive in `root/raw` or,
    in `root/raw/Geo-FNO/pipe`, the files

    - `Pipe_X.npy` and `Pipe_Y.npy` [2310, 129, 129], the points;
    - `Pipe_Q.npy` [2310, 3, 129, 129], velocity along x and y and pressure, of which
      the first is read.

    The samples 0 to 999 are for training, 1000 to 1199 for testing. Of a file with
    fewer samples, all existing ones are used.

    Files are verified when read, and the result of `pre_transform` is stored, see
    `VerifiedDataset`.

    Args:
        root: The folder for the files.
        split: `"train"` or `"test"`.
        revision: The commit, tag or branch of the hub's repository; `None` takes the
            latest. Files downloaded earlier must belong to that revision.
        transform: Applied to each sample on access.
        pre_transform: Applied once to each sample; the result is stored.
        force_reload: Whether to process the unpacked files again. To download again,
            delete the files in `root/raw`.

    Raises:
        ValueError: If an argument is invalid, or if a file is malformed or has changed.
        FileNotFoundError: If the hub or the folder has no such files, or they contain
            no sample of the split.
        ConnectionError: If files are missing and the hub cannot be reached.
    """

    fields: Fields = (Field("velocity_x", 1, ""),)
    prefix: ClassVar[str] = "Geo-FNO/pipe/Pipe_"
    grid: ClassVar[tuple[int, int]] = (129, 129)
    num_channels: ClassVar[int] = 3
    target_channel: ClassVar[int] = 0

    @property
    def name(self) -> str:
        """Subfolder of `root/processed`."""
        return "pipe"
