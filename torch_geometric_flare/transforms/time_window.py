"""Windows of successive states from a sample's time series."""

from collections.abc import Iterable

import torch
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import BaseTransform

from torch_geometric_flare.fields import Field, channel_slices, num_channels
from torch_geometric_flare.transforms.features import feature_key


class TimeWindow(BaseTransform):
    r"""Select a state and the states that follow it from a sample's time series.

    The columns of the sample's `y` are the states at all times, and those of a state
    are its fields. The returned sample has each field at one time under the field's
    name, as a feature for the model, and the following `num_steps` states as `y`. An
    existing `x` is removed, because it is built from the features at each time.

    Args:
        state: The fields of one state, in the order of their columns.
        num_steps: Number $K$ of following states.
        start: Index of the first time, from 0; `None` for a random one. Random times
            come from PyTorch's global generator, which `SurrogateDataModule` makes
            reproducible in training.

    Shapes:
        - `data.y`: $[N, (T + 1) C]$ before, $[N, K C]$ after
        - each field of $C_f$ channels: $[N, C_f]$

    Raises:
        ValueError: If `state` is empty or has duplicate names, or a number is out of
            range; when applied: if the sample is a batch, or its `y` does not hold this
            many states.
    """

    def __init__(
        self, state: Iterable[Field], num_steps: int, start: int | None = None
    ) -> None:
        self.state = tuple(state)
        if not self.state:
            raise ValueError("state is empty: pass at least one field")
        channel_slices(self.state)  # raises an error for duplicate names
        if num_steps < 1 or (start is not None and start < 0):
            raise ValueError(
                "num_steps must be at least 1 and start nonnegative, got "
                f"num_steps={num_steps}, start={start}"
            )
        self.num_steps = num_steps
        self.start = start

    def forward(self, data: Data) -> Data:
        """Return the window of the sample."""
        if isinstance(data, Batch):
            raise ValueError("data is a batch: apply this before batching")
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
