import torch

from torch_geometric_flare import FLAREConv, ResidualMLP
from torch_geometric_flare.nn import ResidualBlock


def test_formula_and_reset():
    conv, mlp = FLAREConv(8, heads=2), ResidualMLP(8, 8, 8)
    block = ResidualBlock(8, conv, mlp)
    x = torch.randn(20, 8)
    batch = torch.tensor([0] * 5 + [1] * 15)
    middle = x + conv(block.mixer_norm(x), batch)
    expected = middle + mlp(block.feed_forward_norm(middle))
    torch.testing.assert_close(block(x, batch), expected)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.fill_(7)
    block.reset_parameters()
    assert not any((parameter == 7).any() for parameter in block.parameters())
