"""Flow around airfoils: PyTorch Geometric's AirfRANS with named fields."""

import os
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch_geometric.data import Data, Dataset

from torch_geometric_flare._finite import describe_gaps
from torch_geometric_flare.fields import Field, Fields, channel_slices
from torch_geometric_flare.transforms import make_input


class AirfRANS(Dataset):
    r"""`torch_geometric.datasets.AirfRANS`, its columns named and in our order.

    AirfRANS (Bonnet et al., 2022, <https://arxiv.org/abs/2212.07564>, licence ODbL):
    1,000 solutions of the Reynolds-averaged Navier–Stokes equations around airfoils in
    the plane, with some 180,000 points each. PyTorch Geometric fetches and splits them.

    A sample has

    - `pos` [N, 2], the points in metres;
    - `x` [N, 7]: `pos`, then `inlet_velocity` (two columns, in m/s), `wall_distance`
      (in metres) and `normal` (two columns, zero off the airfoil);
    - `y` [N, 4]: `velocity` (two columns, in m/s), `pressure` over density (in m²/s²)
      and `turbulent_viscosity` (kinematic, in m²/s);
    - `surf` [N], true on the airfoil.

    The inlet velocity is the same at all points of a sample. With `inlet="condition"`
    it is `u` [1, 2] and not in `x` [N, 5].

    All samples are kept in memory, as in PyTorch Geometric.

    Args:
        root: The folder for the files.
        task: `"full"`, `"scarce"` (200 samples to train on), `"reynolds"` or `"aoa"`
            (the test split has other Reynolds numbers or angles of attack).
        split: `"train"` or `"test"`; `"scarce"` has the test split of `"full"`.
        inlet: Whether the inlet velocity is a `"feature"` of each point or a
            `"condition"` of the sample.
        transform: Applied to a sample whenever it is indexed.
        force_reload: Whether to process the raw files again.

    Raises:
        ValueError: If an argument is none of its choices, a file holds more than
            tensors, the two raw files disagree, a sample is malformed, or its inlet
            velocity as a condition is not the same at all points.
    """

    fields: ClassVar[Fields] = (
        Field("velocity", 2, "m/s"),
        Field("pressure", 1, "m²/s²"),
        Field("turbulent_viscosity", 1, "m²/s"),
    )
    """What the columns of `y` are."""
    features: Fields = (
        Field("inlet_velocity", 2, "m/s"),
        Field("wall_distance", 1, "m"),
        Field("normal", 2),
    )
    """What the columns of `x` after the coordinates are."""
    conditions: Fields = ()
    """What the columns of `u` are."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        task: str = "full",
        split: str = "train",
        transform: Callable[[Data], Data] | None = None,
        force_reload: bool = False,
        *,
        inlet: Literal["feature", "condition"] = "feature",
    ) -> None:
        # Importing all data sets of PyTorch Geometric takes a while.
        from torch_geometric_flare.datasets.airfrans_files import CheckedAirfRANS

        if task not in CheckedAirfRANS.tasks:
            raise ValueError(
                f"task must be one of {CheckedAirfRANS.tasks}, got {task!r}."
            )
        if split not in ("train", "test"):
            raise ValueError(f"split must be 'train' or 'test', got {split!r}.")
        if inlet not in ("feature", "condition"):
            raise ValueError(f"inlet must be 'feature' or 'condition', got {inlet!r}.")
        if inlet == "condition":
            self.conditions, self.features = self.features[:1], self.features[1:]
        self._official = CheckedAirfRANS(
            os.fspath(root), task, split == "train", force_reload=force_reload
        )
        super().__init__(transform=transform)

    @property
    def sizes(self) -> list[int]:
        """Points of each sample before `transform`."""
        return [self._official[index].num_nodes for index in self.indices()]

    def len(self) -> int:
        """Return the number of samples."""
        return len(self._official)

    def get(self, idx: int) -> Data:
        """Return the sample at an index."""
        from torch_geometric_flare.datasets.airfrans_files import check_shapes

        data = self._official[idx]
        check_shapes(data.to_dict(), f"sample {idx}")
        for name, columns in channel_slices(type(self).features).items():
            data[name] = data.x[:, columns]
        for key in ("pos", "x", "y"):
            if gaps := describe_gaps(data[key].numpy()):
                raise ValueError(f"sample {idx}: {key} has {gaps}.")
        data.x = make_input(data, self.features)
        if self.conditions:
            inlet = data.inlet_velocity
            del data.inlet_velocity
            if not torch.equal(inlet, inlet[:1].expand_as(inlet)):
                low, high = inlet.amin(0).tolist(), inlet.amax(0).tolist()
                raise ValueError(
                    f"sample {idx}: inlet_velocity is {low} to {high} m/s, not the "
                    "same at all points: take it as inlet='feature'."
                )
            data.u = inlet[:1].clone()
        return data
