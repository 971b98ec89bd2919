"""Laws that any operator on point clouds should obey, as reusable asserts."""

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

__all__ = [
    "assert_batch_invariant",
    "assert_chunk_invariant",
    "assert_merge_associative",
    "assert_permutation_equivariant",
    "assert_point_parallel",
    "assert_same_function",
    "run_processes",
]
