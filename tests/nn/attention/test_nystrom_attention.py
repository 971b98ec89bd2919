import torch

from torch_geometric_flare.nn import NystromAttention
from torch_geometric_flare.testing import assert_batch_invariant, assert_same_function


def reference(attention, x):
    """One graph, head by head, segment by segment."""
    heads = []
    count = min(attention.num_landmarks, len(x))
    for q, k, v in zip(
        *(m.chunk(attention.heads, -1) for m in attention.maps(x).chunk(3, -1)),
        strict=True,
    ):
        segment = torch.arange(len(x)) * count // len(x)
        near = torch.stack([q[segment == i].mean(0) for i in range(count)])
        far = torch.stack([k[segment == i].mean(0) for i in range(count)])
        scale = q.size(-1) ** -0.5
        a = (scale * near @ far.T).softmax(-1)
        z = a.T / (torch.linalg.norm(a, 1) * torch.linalg.norm(a, torch.inf))
        eye = torch.eye(count, dtype=x.dtype)
        for _ in range(6):
            z = z @ (13 * eye - a @ z @ (15 * eye - a @ z @ (7 * eye - a @ z))) / 4
        left, right = (scale * q @ far.T).softmax(-1), (scale * near @ k.T).softmax(-1)
        heads.append(left @ z @ right @ v)
    return attention.out(torch.cat(heads, -1))


def test_formula_with_more_and_fewer_points_than_landmarks():
    attention = NystromAttention(8, heads=2, num_landmarks=7).double()
    for points in (30, 4, 1):
        x = torch.randn(points, 8, dtype=torch.float64)
        assert_same_function(attention, lambda x: reference(attention, x), [x])


def test_batch_mates_change_nothing():
    attention = NystromAttention(8, heads=2, num_landmarks=7).double()
    assert_batch_invariant(attention, 8, (1, 2, 63, 63, 0, 400), atol=1e-9)
