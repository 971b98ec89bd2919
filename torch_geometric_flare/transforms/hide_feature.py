"""A feature that is known at some of the points."""

import torch
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform

from torch_geometric_flare.transforms.features import feature_key, get_feature


class HideFeature(BaseTransform):
    """Hide a feature at all but a random share of the points.

    Where it is hidden the feature is zero. A further feature, `<name>_known`, is one
    where it is known and zero elsewhere, so that a network can tell a hidden value from
    a zero. Random numbers come from torch's global generator: as a `train_transform`
    each epoch shows other points.

    Args:
        name: Name of the feature.
        share: Share of the points where it stays, from 0 to 1, rounded to whole points.

    Raises:
        ValueError: If `share` is no share. When applied: if the sample has no such
            feature of one row a point, or has an `x`, which may show it, or the feature
            is hidden already.

    Examples:
        >>> data = Data(pos=torch.rand(50, 2), permeability=torch.ones(50, 1))
        >>> data = HideFeature("permeability", share=0.1)(data)
        >>> data
        Data(pos=[50, 2], permeability=[50, 1], permeability_known=[50, 1])
        >>> data.permeability.sum()
        tensor(5.)
    """

    def __init__(self, name: str, share: float) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"share is {share}, expected a number from 0 to 1")
        self.name = name
        self.share = share

    def forward(self, data: Data) -> Data:
        """Return the sample with the feature hidden, and where it is known."""
        value, number = get_feature(data, self.name), data.num_nodes
        if value is None or data.get("x") is not None or len(value) != number:
            raise ValueError(
                f"the sample has {sorted(data.keys())}, expected the feature "
                f"{self.name!r} with a row for each of {number} points, and no x"
            )
        if data.get(feature_key(f"{self.name}_known")) is not None:
            raise ValueError(
                f"the sample has {self.name}_known: {self.name!r} is hidden already"
            )
        known = value.new_zeros(len(value), 1)
        known[torch.randperm(len(value))[: round(self.share * len(value))]] = 1
        shown = torch.where(known.view(-1, *[1] * (value.dim() - 1)) > 0, value, 0)
        data[feature_key(self.name)] = shown.to(value.dtype)
        data[feature_key(f"{self.name}_known")] = known
        return data

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, share={self.share})"
