import pytest
import torch

from torch_geometric_flare.nn import LinearAttention
from torch_geometric_flare.testing import (
    assert_batch_invariant,
    assert_chunk_invariant,
    assert_merge_associative,
    assert_permutation_equivariant,
    assert_point_parallel,
)


def draw(points=63, channels=8):
    return torch.randn(points, channels, dtype=torch.float64)


def attention_of(*args, **kwargs):
    attention = LinearAttention(*args, **kwargs).double()
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.normal_(std=0.5)
    return attention


def by_weights(attention, source, query):
    """The same with a matrix of weights of all pairs of points."""

    def heads(linear, x):
        return linear(x).view(len(x), attention.heads, -1).transpose(0, 1)

    q = heads(attention.query, query).softmax(-1)
    k = heads(attention.key, source).softmax(-1)
    weights = q @ k.mT
    weights = weights / weights.sum(-1, keepdim=True)
    y = weights @ heads(attention.value, source) + q
    return attention.out(y.transpose(0, 1).flatten(1))


def test_formula():
    attention, x, query = attention_of(8, heads=2), draw(), draw(20)
    torch.testing.assert_close(attention(x), by_weights(attention, x, x))
    torch.testing.assert_close(attention((x, query)), by_weights(attention, x, query))


def test_laws():
    attention = attention_of(8, heads=2)
    assert_batch_invariant(attention, 8, (1, 2, 63, 0, 500), atol=1e-9)
    assert_chunk_invariant(attention, 8, 17, (1, 2, 63, 0, 50))
    assert_permutation_equivariant(attention, draw(), torch.arange(63) // 40)
    assert_point_parallel(attention, 8, sizes=(1, 40, 0, 60))
    states = (attention.encode(draw()) for _ in range(3))
    assert_merge_associative(*states)


def test_a_query_without_source_points_gets_its_own_query():
    attention = attention_of(8, heads=2)
    source, query = draw(5), draw(4)
    batches = torch.zeros(5, dtype=torch.long), torch.tensor([0, 0, 1, 1])
    q = attention.query(query[2:]).view(2, 2, 4).softmax(-1).flatten(1)
    y = attention((source, query), batches)
    torch.testing.assert_close(y[2:], attention.out(q))


def test_half_precision_holds_many_points():
    # Sums over points pass the largest number of float16, which is 65,504.
    attention = LinearAttention(8, heads=1)
    x = torch.randn(600_000, 8)
    expected = attention(x)
    y = attention.half()(x.half())
    torch.testing.assert_close(y.float(), expected, atol=2e-3, rtol=0)


def test_reset_parameters_changes_every_parameter():
    attention = LinearAttention(8, heads=2)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.fill_(7)
    attention.reset_parameters()
    for name, parameter in attention.named_parameters():
        assert not (parameter == 7).any(), name


def test_errors():
    with pytest.raises(ValueError, match="channels is 8, which .*heads=3"):
        LinearAttention(8, heads=3)
    with pytest.raises(ValueError, match="heads is 0"):
        LinearAttention(8, heads=0)
    with pytest.raises(ValueError, match=r"expected \[N, 8\]"):
        attention_of(8)(draw(5, 4))


def test_repr():
    assert str(LinearAttention(8, heads=2)) == "LinearAttention(8, heads=2)"
