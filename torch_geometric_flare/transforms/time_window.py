"""A few successive states of a sample that holds all."""

from collections.abc import Iterable

import torch
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import BaseTransform

from torch_geometric_flare.fields import Field, channel_slices, num_channels
from torch_geometric_flare.transforms.features import feature_key


class TimeWindow(BaseTransform):
    r"""Make a state and those that follow it of a sample's whole history.

    The sample's `y` holds the states at all times side by side, and each state its
    fields side by side. Under the name of each field the returned sample has that field
    at one time, as a feature for the model, and as `y` the `num_steps` states after it.
    An `x` is left out: it is made of the features, anew for every time.

    Args:
        state: The fields of one state, in the order of their columns.
        num_steps: Number $K$ of the states that follow.
        start: The first time, counted from 0; `None` for a random one. Random times
            come from torch's global generator, so that in training a
            `SurrogateDataModule` makes them reproducible.

    Shapes:
        - `data.y`: $[N, (T + 1) C]$ before, $[N, K C]$ after
        - each field of $C_f$ channels: $[N, C_f]$

    Raises:
        ValueError: If `state` is empty or has two fields of one name, or a number is
            out of its range; when applied: if the sample is a batch, or its `y` does
            not hold as many whole states.
    """

    def __init__(
        self, state: Iterable[Field], num_steps: int, start: int | None = None
    ) -> None:
        self.state = tuple(state)
        if not self.state:
            raise ValueError("state is empty: pass at least one field")
        channel_slices(self.state)  # Raises if two have the same name.
        if num_steps < 1 or (start is not None and start < 0):
            raise ValueError(
                "num_steps must be at least 1 and start not negative, got "
                f"num_steps={num_steps}, start={start}"
            )
        self.num_steps = num_steps
        self.start = start

    def forward(self, data: Data) -> Data:
        """Return the sample at one time."""
        if isinstance(data, Batch):
            raise ValueError("data is a batch: take windows of each sample before it")
        channels = num_channels(self.state)
        y = data.get("y")
        if y is None or y.dim() != 2 or y.size(1) % channels:
            shape = None if y is None else tuple(y.shape)
            raise ValueError(
                f"the sample has y of shape {shape}, expected [N, (T + 1) * {channels}]"
                f": {', '.join(map(str, self.state))} at all times"
            )
        states = y.view(len(y), -1, channels)  # [N, T + 1, C]
        last = states.size(1) - 1 - self.num_steps
        if last < (self.start or 0):
            raise ValueError(
                f"the sample has {states.size(1)} states, but start={self.start} and "
                f"num_steps={self.num_steps} need "
                f"{(self.start or 0) + self.num_steps + 1}: choose a shorter window"
            )
        start = self.start
        if start is None:
            start = int(torch.randint(last + 1, ()))
        for name, columns in channel_slices(self.state).items():
            data[feature_key(name)] = states[:, start, columns]
        following = states[:, start + 1 : start + 1 + self.num_steps]
        data.y = following.flatten(1)
        data.x = None
        return data

    def __repr__(self) -> str:
        names = [field.name for field in self.state]
        return f"{type(self).__name__}({names}, {self.num_steps}, start={self.start})"
