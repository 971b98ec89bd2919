"""Reusable asserts for laws that operators on point clouds should obey."""

from torch_geometric_flare.testing.laws import (
    assert_batch_invariant,
    assert_chunk_invariant,
    assert_merge_associative,
    assert_permutation_equivariant,
    assert_same_function,
)
from torch_geometric_flare.testing.parallel import (
    assert_point_parallel,
    run_processes,
)
from torch_geometric_flare.testing.weights import (
    assert_weightless_points_receive,
    assert_weights_of_one,
    assert_weights_scale,
    assert_weights_split,
)

__all__ = [
    "assert_batch_invariant",
    "assert_chunk_invariant",
    "assert_merge_associative",
    "assert_permutation_equivariant",
    "assert_point_parallel",
    "assert_same_function",
    "assert_weightless_points_receive",
    "assert_weights_of_one",
    "assert_weights_scale",
    "assert_weights_split",
    "run_processes",
]
