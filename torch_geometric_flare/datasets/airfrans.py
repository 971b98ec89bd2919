"""Flow around airfoils: PyTorch Geometric's AirfRANS with named fields."""

import os
from collections.abc import Callable
from typing import Literal

import torch
from torch_geometric.data import Data, Dataset

from torch_geometric_flare._finite import describe_gaps
from torch_geometric_flare.fields import Field, Fields, channel_slices
from torch_geometric_flare.transforms import make_input


class AirfRANS(Dataset):
    r"""`torch_geometric.datasets.AirfRANS` with named and reordered columns.

    AirfRANS (Bonnet et al., 2022, <https://arxiv.org/abs/2212.07564>, license ODbL):
    1,000 solutions of the Reynolds-averaged Navier–Stokes equations around airfoils in
    the plane, with some 180,000 points each. PyTorch Geometric downloads and splits
    them.

    A sample has

    - `pos` [N, 2], the points in meters;
    - `x` [N, 7]: `pos`, then `inlet_velocity` (two columns, in m/s), `wall_distance`
      (in meters) and `normal` (two columns, zero off the airfoil);
    - `y` [N, 4]: `velocity` (two columns, in m/s), `pressure` over density (in m²/s²)
      and `turbulent_viscosity` (kinematic, in m²/s);
    - `surf` [N], true on the airfoil.

    The inlet velocity is the same at all points of a sample. With `inlet="condition"`
    it is `u` [1, 2] and not in `x` [N, 5].

    With `source="surface"` samples are for a model such as `nn.FLAREQuery`: `pos`, `x`
    and `y` hold only the points on the airfoil, without `wall_distance`, which is zero
    there, and with the pressure as the only field, because the velocity is also zero.
    All points of the sample, including those on the airfoil, are query points:
    `query_pos` [M, 2], `query_wall_distance` [M, 1], `query_surf` [M] and the four
    fields `query_y` [M, 4].

    All samples are kept in memory, as in PyTorch Geometric.

    Args:
        root: The folder for the files.
        task: `"full"`, `"scarce"` (200 samples to train on), `"reynolds"` or `"aoa"`
            (the test split has other Reynolds numbers or angles of attack).
        split: `"train"` or `"test"`; `"scarce"` has the test split of `"full"`.
        inlet: Use the inlet velocity as a `"feature"` of each point or a `"condition"`
            of the sample.
        source: Use `"all"` points of a sample, or only those on the `"surface"`, with
            all points as query points.
        transform: Applied to each sample on access.
        force_reload: Whether to process the raw files again.

    Raises:
        ValueError: If an argument is invalid, a file holds more than tensors, the two
            raw files disagree, a sample is malformed, or its inlet velocity as a
            condition is not the same at all points, or it has no points on the airfoil
            as source.
    """

    fields: Fields = (
        Field("velocity", 2, "m/s"),
        Field("pressure", 1, "m²/s²"),
        Field("turbulent_viscosity", 1, "m²/s"),
    )
    """The columns of `y`."""
    features: Fields = (
        Field("inlet_velocity", 2, "m/s"),
        Field("wall_distance", 1, "m"),
        Field("normal", 2),
    )
    """The columns of `x` after the coordinates."""
    conditions: Fields = ()
    """The columns of `u`."""
    query_fields: Fields = ()
    """The columns of `query_y`."""
    query_features: Fields = ()
    """Inputs of the query points after the coordinates."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        task: str = "full",
        split: str = "train",
        transform: Callable[[Data], Data] | None = None,
        force_reload: bool = False,
        *,
        inlet: Literal["feature", "condition"] = "feature",
        source: Literal["all", "surface"] = "all",
    ) -> None:
        # Imported here because importing PyTorch Geometric's data sets is slow.
        from torch_geometric_flare.datasets.airfrans_files import CheckedAirfRANS

        if task not in CheckedAirfRANS.tasks:
            raise ValueError(
                f"task must be one of {CheckedAirfRANS.tasks}, got {task!r}."
            )
        if split not in ("train", "test"):
            raise ValueError(f"split must be 'train' or 'test', got {split!r}.")
        if inlet not in ("feature", "condition"):
            raise ValueError(f"inlet must be 'feature' or 'condition', got {inlet!r}.")
        if source not in ("all", "surface"):
            raise ValueError(f"source must be 'all' or 'surface', got {source!r}.")
        velocity, distance, normal = self.features
        if source == "surface":
            self.query_fields, self.fields = self.fields, self.fields[1:2]
            self.query_features = (distance,)
            self.features = (velocity, normal)
        if inlet == "condition":
            self.conditions, self.features = (velocity,), self.features[1:]
        self._official = CheckedAirfRANS(
            os.fspath(root), task, split == "train", force_reload=force_reload
        )
        super().__init__(transform=transform)

    @property
    def sizes(self) -> list[int]:
        """Number of points of each sample before `transform`."""
        samples = (self._official[index] for index in self.indices())
        if self.query_fields:
            return [int(data.surf.sum()) for data in samples]
        return [data.num_nodes for data in samples]

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
        if self.query_fields:
            data = _from_surface(data, f"sample {idx}")
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


def _from_surface(data: Data, what: str) -> Data:
    """Return the points on the airfoil, with all points as query points."""
    there, pressure = data.surf, channel_slices(AirfRANS.fields)["pressure"]
    if not there.any():
        raise ValueError(f"{what} has no points on the airfoil: surf is false.")
    return Data(
        pos=data.pos[there],
        y=data.y[there, pressure],
        inlet_velocity=data.inlet_velocity[there],
        normal=data.normal[there],
        query_pos=data.pos,
        query_wall_distance=data.wall_distance,
        query_surf=there,
        query_y=data.y,
    )
