"""Random query points of a sample."""

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import BaseTransform

from torch_geometric_flare._arguments import check_integers

_PREFIX = "query_"


class FixedQueryPoints(BaseTransform):
    r"""Draw random query points of a sample without replacement.

    This transform is `FixedPoints(num, replace=False)` of PyTorch Geometric for the
    points at which a model such as `nn.FLAREQuery` predicts: it keeps the rows of the
    drawn points in all tensors whose name starts with `query_`. Use it after
    `FixedPoints` in a `Compose`. Random numbers come from PyTorch's global generator.

    Args:
        num: Number of points to draw. A sample with fewer points keeps all of them.

    Raises:
        ValueError: If `num` is below one. When applied: if the sample is a batch or has
            no query points, or their tensors have different numbers of rows.

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
            raise ValueError("data is a batch: apply this before batching")
        tensors = {
            name: value
            for name, value in data.to_dict().items()
            if name.startswith(_PREFIX) and isinstance(value, Tensor)
        }
        sizes = {name: len(value) for name, value in tensors.items()}
        if len(set(sizes.values())) != 1:
            raise ValueError(
                f"query points have the rows {sizes}; add query_pos or query_x to the "
                "sample, and give each of these tensors one row per point"
            )
        choice = torch.randperm(next(iter(sizes.values())))[: self.num]
        for name, value in tensors.items():
            data[name] = value[choice]
        return data

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.num})"
