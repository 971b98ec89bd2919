"""Stress around a void in a stretched block of rubber (Geo-FNO)."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from torch_geometric.data import Data

from torch_geometric_flare.datasets.arrays import Array, open_npy, to_tensor
from torch_geometric_flare.datasets.geo_fno import GeoFNO
from torch_geometric_flare.fields import Field, Fields
from torch_geometric_flare.transforms import make_input

NUM_POINTS = 972


class Elasticity(GeoFNO):
    r"""Stress in a unit cell of hyperelastic material with a random void: 2-D points.

    The cell is clamped below and pulled upward on top by a traction of 100. The
    material is incompressible (Rivlin-Saunders, $C_1 = 1.863 \cdot 10^5$,
    $C_2 = 9.79 \cdot 10^3$). Source: Geo-FNO (Li et al., 2022,
    <https://arxiv.org/abs/2207.05209>). The FLARE papers read it from
    `vedantpuri/PDESurrogates` on the Hugging Face hub: 1000 samples to train on and
    200 to test.

    A sample has

    - `pos` [972, 2], the points in the unit square, as in the file;
    - `x` [972, 2], the same as `pos`;
    - `y` [972, 1], the stress as in the file.

    The files state no unit. Those in `fields` follow from reading the paper's constants
    as SI units. The papers leave `x` as it is and normalize `y`
    by mean and standard deviation of the training split: `Normalizer.gaussian`, which
    omits the 1e-8 that they add to the standard deviation.

    The archive `Geo-FNO.tar.gz` is downloaded (`pip install ".[data]"`) and unpacked on
    first use. Without a connection, manually place either the archive in `root/raw` or,
    in `root/raw/Geo-FNO/elasticity/Meshes`, the files

    - `Random_UnitCell_XY_10.npy` [972, 2, 2000], the points;
    - `Random_UnitCell_sigma_10.npy` [972, 2000], the stress.

    The samples 0 to 999 are for training, 1800 to 1999 (the last 200) for testing. For
    smaller files the same indices are used, as far as they exist, so that no sample is
    in both splits.

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

    sample_axis: ClassVar[int] = -1
    index_ranges: ClassVar[dict[str, range]] = {
        "train": range(1000),
        "test": range(1800, 2000),
    }
    fields: Fields = (Field("stress", 1, "Pa"),)

    @property
    def name(self) -> str:
        """Subfolder of `root/processed`."""
        return "elasticity"

    @property
    def raw_file_names(self) -> list[str]:
        """The files of the points and of the stress."""
        return [
            f"Geo-FNO/elasticity/Meshes/Random_UnitCell_{array}_10.npy"
            for array in ("XY", "sigma")
        ]

    def open_arrays(self) -> Mapping[str, Array]:
        """Return XY [972, 2, n] and sigma [972, n]."""
        xy, sigma = (Path(path) for path in self.raw_paths)
        return {
            "XY": open_npy(xy, (NUM_POINTS, 2, None)),
            "sigma": open_npy(sigma, (NUM_POINTS, None)),
        }

    def make_sample(self, arrays: Mapping[str, Array], name: str) -> Data:
        """Return a sample from points [972, 2] and stress [972]."""
        xy, sigma = (f"sample {int(name)} of '{path}'" for path in self.raw_paths)
        data = Data(
            pos=to_tensor(arrays["XY"], 2, xy),
            y=to_tensor(arrays["sigma"][:, None], 1, sigma),
        )
        data.x = make_input(data, self.features)
        return data
