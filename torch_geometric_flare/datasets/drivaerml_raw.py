"""Surface pressure and wall shear on the meshes of DrivAerML as they are published."""

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
    - `y` [N, C], the chosen `fields` side by side: kinematic pressure [N, 1] and
      kinematic wall shear stress [N, 3], both in m²/s²;
    - `wall_shear_stress` [N, 3] with the sign of the file, which is that of OpenFOAM:
      against the flow near the wall. The force on the car per area is
      `-(pressure * normal + wall_shear_stress)` times the density, so that
      `metrics.force_coefficients` takes its negative as `shear_stress`;
    - `normal` [N, 3], unit and outward; zero on a polygon without extent. The files
      have none: all are turned at once so that the car has a positive volume;
    - `area` [N] in m², the part of the surface that a point stands for. If points are
      drawn, it is the area of the cell over the probability of having drawn it, so
      that a sum over the sample, such as the drag, has the sum over all cells as its
      mean. With `sampling="area"` the areas add up to the whole surface;
    - `weight` [N], the same as `area`;
    - `cd`, `cl`, `clf`, `clr`, `cs` [1] in double precision, those coefficients of
      drag, lift (whole, front, rear) and side force that `force_mom_constref_N.csv`
      has, for the reference area of 2.17 m²;
    - `run`, the number of the run.

    Files are placed by hand, for a car has 0.7 GB:
    `root/raw/drivaerml/run_N/boundary_N.vtp` and `force_mom_constref_N.csv` beside it.
    Only the runs that are named by `runs` are fetched if they are missing. Meshes are
    read in their own process, one at a time (`pip install
    ".[data]"`), and what was drawn of them is stored: see
    `ConvertedFiles`.

    The publication has no split. The splits here are 400, 34 and 50 runs, the
    `DrivAerMLDefaultSplitIDs` of <https://github.com/Emmi-AI/noether>; each takes the
    runs that are present. `DrivAerML` and other studies split the runs otherwise, so
    that their figures are of other cars.

    Args:
        root: The folder for the files.
        split: `"train"`, `"val"` or `"test"`.
        runs: Numbers of the runs to take instead of those of the split, in this order.
        num_points: The number of cells drawn of each car, without replacement; `None`
            takes all.
        sampling: `"area"` draws cells with probabilities proportional to their areas (a
            cell of more than its share is always drawn), `"uniform"` with equal ones.
        seed: Seed of the drawing, which depends on it and the run alone.
        revision: The commit, tag or branch of the hub's repository; `None` takes the
            latest. Files fetched earlier must be of that revision.
        transform: Applied to a sample whenever it is indexed.
        pre_transform: Applied once to every sample, and its result stored.
        force_reload: Whether to read the meshes again.
        fields: Names of the targets, in the order of their columns in `y`:
            `"pressure"`, `"wall_shear_stress"`, or both.

    Raises:
        ValueError: If an argument is none of its choices, a car has fewer cells than
            are to be drawn, or a file is malformed or has changed.
        FileNotFoundError: If no run of the split, or not all of `runs`, is there.
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
    """The targets that `fields` chooses from."""
    coordinate_bounds = DrivAerML.coordinate_bounds
    """Lower and upper corner, in meters, which `x` maps to 0 and 1."""
    speed: ClassVar[float] = DrivAerML.speed
    """Speed of the oncoming air, along +x, in m/s."""
    density: ClassVar[float] = DrivAerML.density
    """Density that belongs to a kinematic pressure."""
    reference_area: ClassVar[float] = DrivAerML.reference_area
    """Reference area of the published force coefficients, in m²."""

    def split_of(self, run: int) -> str | None:
        """Return the split of a run, `None` if it has no results."""
        return _split_of(run)


def _split_of(run: int) -> str | None:
    if run in _WITHOUT_RESULTS or run > 500:
        return None
    return "val" if run in _VAL else "test" if run in _TEST else "train"
