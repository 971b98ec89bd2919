import pytest
import torch

from torch_geometric_flare.nn import LSHAttention
from torch_geometric_flare.testing import assert_batch_invariant, assert_same_function


def full(attention, x):
    """Attention among all points of one graph, with queries that are the keys."""
    q, v = (
        m.unflatten(-1, (attention.heads, -1)).transpose(0, 1)
        for m in attention.maps(x).chunk(2, -1)
    )
    k = q / q.norm(dim=-1, keepdim=True)
    scores = q @ k.mT * q.size(-1) ** -0.5
    scores = scores - 1e6 * torch.eye(len(x), dtype=x.dtype)
    return attention.out((scores.softmax(-1) @ v).transpose(0, 1).flatten(-2))


@pytest.mark.parametrize("chunk", [30, 40])
def test_one_chunk_is_full_attention(chunk):
    attention = LSHAttention(8, 2, 8, attention_chunk=chunk, num_rounds=3).double()
    x = torch.randn(30, 8, dtype=torch.float64)
    assert_same_function(attention, lambda x: full(attention, x), [x], atol=1e-8)


def test_a_point_sees_its_chunk_and_the_one_before():
    attention = LSHAttention(4, 1, 6, attention_chunk=5, num_rounds=1).double()
    x = torch.randn(23, 4, dtype=torch.float64)
    q = attention.maps(x)[:, :4] @ attention.rotations[0, 0]
    order = torch.cat([q, -q], -1).argmax(-1).argsort(stable=True)
    jacobian = torch.autograd.functional.jacobian(attention, x).abs().sum((1, 3))
    chunk = torch.arange(23) // 5
    behind = chunk[:, None] - chunk
    seen = jacobian[order][:, order] > 0
    assert torch.equal(seen, (behind == 0) | (behind == 1))


def test_batch_mates_change_nothing():
    attention = LSHAttention(8, 2, 8, attention_chunk=16, num_rounds=2).double()
    assert_batch_invariant(attention, 8, (1, 2, 63, 63, 0, 400), atol=1e-9)


def test_rotations_are_saved_and_alike_each_time():
    attention = LSHAttention(8, 2)
    assert torch.equal(
        attention.state_dict()["rotations"], LSHAttention(8, 2).rotations
    )
    with pytest.raises(ValueError, match="num_buckets is 3"):
        LSHAttention(8, 2, num_buckets=3)
