"""Random query points of a sample."""

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import BaseTransform

from torch_geometric_flare._arguments import check_integers

_PREFIX = "query_"


class FixedQueryPoints(BaseTransform):
    r"""Draw query points of a sample at random, without replacement.

    What `FixedPoints(num, replace=False)` of PyTorch Geometric does to the points of a
    sample, this does to those at which a model such as `nn.FLAREQuery` predicts: of
    every tensor whose name starts with `query_` it keeps the rows of the drawn points.
    Put it behind `FixedPoints` in a `Compose`. Random numbers come from torch's global
    generator.

    Args:
        num: Points to draw. A sample with fewer keeps all of them.

    Raises:
        ValueError: If `num` is below one. When applied: if the sample is a batch, has
            no query points, or a tensor of theirs has another number of rows.

    Examples:
        >>> data = Data(query_pos=torch.rand(50, 3), query_y=torch.rand(50, 1))
        >>> FixedQueryPoints(20)(data)
        Data(query_pos=[20, 3], query_y=[20, 1])
    """

    def __init__(self, num: int) -> None:
        check_integers(1, num=num)
        self.num = num

    def forward(self, data: Data) -> Data:
        """Return the sample with the drawn query points."""
        if isinstance(data, Batch):
            raise ValueError("data is a batch: draw the points of each sample before")
        tensors = {
            name: value
            for name, value in data.to_dict().items()
            if name.startswith(_PREFIX) and isinstance(value, Tensor)
        }
        sizes = {name: len(value) for name, value in tensors.items()}
        if len(set(sizes.values())) != 1:
            raise ValueError(
                f"query points have the rows {sizes}; give the sample query_pos or "
                "query_x, and every tensor of theirs one row for each point"
            )
        choice = torch.randperm(next(iter(sizes.values())))[: self.num]
        for name, value in tensors.items():
            data[name] = value[choice]
        return data

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.num})"
