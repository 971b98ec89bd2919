import pytest
import torch

from torch_geometric_flare.nn import LinformerAttention
from torch_geometric_flare.testing import assert_batch_invariant


def test_with_identity_for_projections_it_is_full_attention():
    attention = LinformerAttention(8, 12, heads=2, num_projections=12).double()
    reference = torch.nn.MultiheadAttention(8, 2, batch_first=True).double()
    names = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    own = (*attention.maps.parameters(), *attention.out.parameters())
    reference.load_state_dict(dict(zip(names, own, strict=True)))
    with torch.no_grad():
        attention.project_keys.copy_(torch.eye(12))
        attention.project_values.copy_(torch.eye(12))
    x = torch.randn(12, 8, dtype=torch.float64)
    torch.testing.assert_close(attention(x), reference(x, x, x)[0])


def test_batch_mates_change_nothing():
    attention = LinformerAttention(8, 12, heads=2, num_projections=5).double()
    assert_batch_invariant(attention, 8, (12, 0, 12, 12))


def test_another_number_of_points_is_refused():
    attention = LinformerAttention(8, 12, heads=2)
    batch = torch.tensor([0] * 12 + [1] * 13)
    with pytest.raises(ValueError, match="^graph 1 has 13 points, expected 12"):
        attention(torch.randn(25, 8), batch)
