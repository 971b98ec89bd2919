"""Surface pressure and wall shear on the published meshes of DrivAerML."""

from typing import ClassVar

from torch_geometric_flare.datasets.drivaerml import DrivAerML
from torch_geometric_flare.datasets.surface_runs import SurfaceRuns
from torch_geometric_flare.fields import Fields

# fmt: off
_WITHOUT_RESULTS = {
    167, 211, 218, 221, 248, 282, 291, 295, 316, 325, 329, 364, 370, 376, 403, 473,
}
_VAL = {
    4, 22, 56, 109, 150, 165, 177, 191, 228, 234, 241, 247, 252, 253, 260, 271, 275,
    298, 303, 311, 321, 324, 328, 341, 352, 366, 380, 390, 401, 423, 441, 447, 454, 487,
}
_TEST = {
    11, 12, 19, 20, 24, 26, 29, 41, 55, 59, 108, 124, 127, 133, 142, 158, 173, 180, 187,
    188, 197, 199, 203, 205, 207, 208, 210, 215, 222, 226, 258, 263, 280, 284, 290, 322,
    337, 350, 354, 363, 372, 382, 387, 405, 410, 424, 428, 429, 436, 472,
}
# fmt: on


class DrivAerMLRaw(SurfaceRuns):
    r"""The surface meshes of DrivAerML as published: one car per sample.

    DrivAerML (Ashton et al., 2024, <https://arxiv.org/abs/2408.11969>), repository
    `neashton/drivaerml` on the Hugging Face hub: 484 cars in air at 38.889 m/s, each
    with a surface of about 8.8 million polygons. For the presampled surfaces that the
    FLARE papers train on, see `DrivAerML`.

    A sample has

    - `x` [N, 3], the coordinates scaled by `coordinate_bounds`, $(p - l)/(u - l)$;
    - `pos` [N, 3], the means of the corners of the polygons, in meters;
    - `y` [N, C], the concatenated `fields`: kinematic pressure [N, 1] and kinematic
      wall shear stress [N, 3], both in m²/s²;
    - `wall_shear_stress` [N, 3] with the sign of the file and of OpenFOAM: opposite to
      the flow near the wall. The force on the car per area is `-(pressure * normal +
      wall_shear_stress)` times the density, so that `metrics.force_coefficients` takes
      its negative as `shear_stress`;
    - `normal` [N, 3], outward unit normals; zero on a degenerate polygon. They are not
      in the files: a common sign is chosen so that the volume of the car is positive;
    - `area` [N] in m², the part of the surface that a point represents. If points are
      drawn, it is the area of the cell divided by its probability of being drawn, so
      that a sum over the sample, such as the drag, is an unbiased estimate of the sum
      over all cells. With `sampling="area"` the areas add up to the whole surface;
    - `weight` [N], the same as `area`;
    - `cd`, `cl`, `clf`, `clr`, `cs` [1] in double precision, the coefficients of drag,
      lift (total, front, rear) and side force in `force_mom_constref_N.csv`, for the
      reference area of 2.17 m²;
    - `run`, the number of the run.

    Place the files manually, because a car has 0.7 GB:
    `root/raw/drivaerml/run_N/boundary_N.vtp` and `force_mom_constref_N.csv` in the same
    folder. Only the runs named in `runs` are downloaded if they are missing. Meshes are
    read one at a time in a separate process (`pip install ".[data]"`), and the drawn
    cells are stored, see `ConvertedFiles`.

    The publication defines no split. The splits here are 400, 34 and 50 runs, the
    `DrivAerMLDefaultSplitIDs` of <https://github.com/Emmi-AI/noether>; each uses the
    runs that are present. `DrivAerML` and other studies split the runs differently, so
    their results refer to other cars.

    Args:
        root: The folder for the files.
        split: `"train"`, `"val"` or `"test"`.
        runs: Numbers of the runs to use instead of those of the split, in this order.
        num_points: Number of cells drawn from each car, without replacement; `None` for
            all.
        sampling: `"area"` draws cells with probabilities proportional to their areas (a
            cell whose probability would exceed 1 is always drawn), `"uniform"` with
            equal probabilities.
        seed: Seed of the draw, which depends only on the seed and the run.
        revision: The commit, tag or branch of the hub's repository; `None` takes the
            latest. Files downloaded earlier must belong to that revision.
        transform: Applied to each sample on access.
        pre_transform: Applied once to each sample; the result is stored.
        force_reload: Whether to read the meshes again.
        fields: Names of the targets, in the order of their columns in `y`:
            `"pressure"`, `"wall_shear_stress"`, or both.

    Raises:
        ValueError: If an argument is invalid, a car has fewer cells than are to be
            drawn, or a file is malformed or has changed.
        FileNotFoundError: If no run of the split exists, or some of `runs` are missing.
        ConnectionError: If files of `runs` are missing and the hub cannot be reached.
    """

    repo_id: ClassVar[str] = "neashton/drivaerml"
    hub_folder = "drivaerml"
    run_files = ("boundary_{}.vtp", "force_mom_constref_{}.csv")
    mesh_size = "0.7 GB"
    pressure_array = "pMeanTrim"
    shear_array = "wallShearStressMeanTrim"
    drawing = "drivaerml_raw"
    published_sizes: ClassVar[dict[str, int]] = {"train": 400, "val": 34, "test": 50}

    available_fields: ClassVar[Fields] = DrivAerML.available_fields
    """The available targets."""
    coordinate_bounds = DrivAerML.coordinate_bounds
    """Lower and upper corner, in meters, of the box that `x` maps to the unit cube."""
    speed: ClassVar[float] = DrivAerML.speed
    """Free-stream speed, along +x, in m/s."""
    density: ClassVar[float] = DrivAerML.density
    """Density of a kinematic pressure, which is one."""
    reference_area: ClassVar[float] = DrivAerML.reference_area
    """Reference area of the published force coefficients, in m²."""

    @staticmethod
    def split_of(run: int) -> str | None:
        """Return the split of a run; `None` if it has no results."""
        if run in _WITHOUT_RESULTS or run > 500:
            return None
        return "val" if run in _VAL else "test" if run in _TEST else "train"
