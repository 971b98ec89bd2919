"""Transonic flow over airfoils of random shape (Geo-FNO)."""

from typing import ClassVar

from torch_geometric_flare.datasets.geo_fno import GeoFNOFlow
from torch_geometric_flare.fields import Field, Fields


class Airfoil(GeoFNOFlow):
    r"""Mach number of the flow over an airfoil, on a C-grid of 221 by 51 points.

    The steady Euler equations around a deformed NACA 0012 profile, at Mach 0.8 and zero
    incidence, with free-stream density and pressure 1. Source: Geo-FNO (Li et al.,
    2022, <https://arxiv.org/abs/2207.05209>). The FLARE papers read it from
    `vedantpuri/PDESurrogates` on the Hugging Face hub: 1000 samples to train on and 200
    to test.

    A sample has

    - `pos` [11271, 2], the grid's points row by row, as in the files, in chord lengths
      of the profile before its deformation. Row 220 meets row 0 in the wake; column 0
      is the wall;
    - `x` [11271, 2], the same as `pos`;
    - `y` [11271, 1], the Mach number as in the file, which has no unit;
    - `grid`, (221, 51).

    The files state no unit; that of `pos` follows from the paper. The papers leave `x`
    as it is and normalize `y` by mean and standard deviation of the training split:
    `Normalizer.gaussian`, which omits the 1e-8 that they add to the standard deviation.

    The archive `Geo-FNO.tar.gz` is downloaded (`pip install ".[data]"`) and unpacked on
    first use. Without a connection, manually place either the archive in `root/raw` or,
    in `root/raw/Geo-FNO/airfoil/naca`, the files

    - `NACA_Cylinder_X.npy` and `NACA_Cylinder_Y.npy` [2490, 221, 51], the points;
    - `NACA_Cylinder_Q.npy` [2490, 5, 221, 51], density, velocity along x and y,
      pressure and Mach number; only the last is read.

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

    fields: Fields = (Field("mach_number", 1, ""),)
    prefix: ClassVar[str] = "Geo-FNO/airfoil/naca/NACA_Cylinder_"
    grid: ClassVar[tuple[int, int]] = (221, 51)
    num_channels: ClassVar[int] = 5
    target_channel: ClassVar[int] = 4

    @property
    def name(self) -> str:
        """Subfolder of `root/processed`."""
        return "airfoil"
