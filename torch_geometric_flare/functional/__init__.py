"""Functional API of the FLARE operator and the layout of ragged batches."""

from torch_geometric_flare.functional.attention import (
    attention_backend,
    causal_flare_attention,
    flare_attention,
    flare_decode,
    flare_encode,
    ragged_flare_attention,
    ragged_flare_decode,
    ragged_flare_encode,
    ragged_flare_weights,
    ragged_self_attention,
    reference_causal_flare_attention,
    reference_flare_attention,
    reference_flare_weights,
)
from torch_geometric_flare.functional.dense_batch import DenseBatch, pack_graphs
from torch_geometric_flare.functional.distributed import (
    distributed_batch_size,
    distributed_copy,
    distributed_merge,
    distributed_sum,
    reduce_gradients,
)
from torch_geometric_flare.functional.point_batch import PointBatch, check_batch
from torch_geometric_flare.functional.ragged_softmax import ragged_softmax_encode
from torch_geometric_flare.functional.ragged_sum import (
    ragged_sum_decode,
    ragged_sum_encode,
)
from torch_geometric_flare.functional.state import SoftmaxState, State, SumState

__all__ = [
    "DenseBatch",
    "PointBatch",
    "SoftmaxState",
    "State",
    "SumState",
    "attention_backend",
    "causal_flare_attention",
    "check_batch",
    "distributed_batch_size",
    "distributed_copy",
    "distributed_merge",
    "distributed_sum",
    "flare_attention",
    "flare_decode",
    "flare_encode",
    "pack_graphs",
    "ragged_flare_attention",
    "ragged_flare_decode",
    "ragged_flare_encode",
    "ragged_flare_weights",
    "ragged_self_attention",
    "ragged_softmax_encode",
    "ragged_sum_decode",
    "ragged_sum_encode",
    "reduce_gradients",
    "reference_causal_flare_attention",
    "reference_flare_attention",
    "reference_flare_weights",
]
