"""Tensors in, tensors out: the FLARE operator and the layout of ragged batches."""

from torch_geometric_flare.functional.attention import (
    flare_attention,
    flare_decode,
    flare_encode,
)
from torch_geometric_flare.functional.distributed import (
    distributed_batch_size,
    distributed_copy,
    distributed_merge,
    distributed_sum,
    reduce_gradients,
)
from torch_geometric_flare.functional.naive import (
    naive_flare_attention,
    naive_flare_weights,
)
from torch_geometric_flare.functional.point_batch import PointBatch, group_graphs
from torch_geometric_flare.functional.ragged import (
    ragged_flare_attention,
    ragged_flare_decode,
    ragged_flare_encode,
    ragged_flare_weights,
)
from torch_geometric_flare.functional.state import LatentState

__all__ = [
    "LatentState",
    "PointBatch",
    "distributed_batch_size",
    "distributed_copy",
    "distributed_merge",
    "distributed_sum",
    "flare_attention",
    "flare_decode",
    "flare_encode",
    "group_graphs",
    "naive_flare_attention",
    "naive_flare_weights",
    "ragged_flare_attention",
    "ragged_flare_decode",
    "ragged_flare_encode",
    "ragged_flare_weights",
    "reduce_gradients",
]
