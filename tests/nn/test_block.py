import pytest
import torch
from torch import nn
from torch_geometric.nn import GATv2Conv, GINEConv

from torch_geometric_flare import FLAREConv, ResidualMLP
from torch_geometric_flare.nn import Backbone, ResidualBlock, predict_stream


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


def local_block():
    local = GINEConv(nn.Sequential(nn.Linear(8, 8), nn.ReLU()), edge_dim=3)
    return ResidualBlock(8, FLAREConv(8, heads=2), ResidualMLP(8, 8, 8), local)


def some_edges(points=20, number=60):
    return {
        "edge_index": torch.randint(points, (2, number)),
        "edge_attr": torch.randn(number, 3),
    }


def test_a_local_layer_of_pytorch_geometric():
    block, x, edges = local_block(), torch.randn(20, 8), some_edges()
    batch = torch.tensor([0] * 5 + [1] * 15)
    near = x + block.local(block.local_norm(x), **edges)
    middle = near + block.mixer(block.mixer_norm(near), batch)
    expected = middle + block.feed_forward(block.feed_forward_norm(middle))
    assert not torch.allclose(near, x)
    torch.testing.assert_close(block(x, batch, edges=edges), expected)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.fill_(7)
    block.reset_parameters()
    for name, parameter in block.named_parameters():
        assert not (parameter == 7).all(), name


def test_a_local_layer_without_features_of_edges():
    local = GATv2Conv(8, 4, heads=2)
    block = ResidualBlock(8, FLAREConv(8, heads=2), nn.Identity(), local)
    x, edge_index = torch.randn(20, 8), some_edges()["edge_index"]
    near = x + local(block.local_norm(x), edge_index)
    middle = near + block.mixer(block.mixer_norm(near))
    expected = middle + block.feed_forward_norm(middle)
    torch.testing.assert_close(block(x, edges={"edge_index": edge_index}), expected)


def test_a_local_layer_sees_all_points_at_once():
    block, x = local_block(), torch.randn(20, 8)
    whole = "GINEConv"
    with pytest.raises(ValueError, match=whole):
        block(x, edges=some_edges(), group=object())
    for step in (
        lambda: block.num_encodes,
        lambda: block.encode_rows(x, None),
        lambda: block.process(None),
        lambda: block.decode_rows((), x, None),
    ):
        with pytest.raises(ValueError, match=whole):
            step()
    model = Backbone()
    model.in_channels, model.out_channels, model.hidden_channels = 8, 8, 8
    model.lift, model.norm, model.head = nn.Linear(8, 8), nn.Identity(), nn.Identity()
    model.blocks = nn.ModuleList([block])
    with pytest.raises(ValueError, match=whole):
        predict_stream(model, x, torch.empty(20, 8), chunk_size=7)


def test_edges_and_a_local_layer_go_together():
    with pytest.raises(ValueError, match="edges is None, .*GINEConv"):
        local_block()(torch.randn(20, 8))
    block = ResidualBlock(8, FLAREConv(8, heads=2), nn.Identity())
    with pytest.raises(ValueError, match="^edges are given"):
        block(torch.randn(20, 8), edges=some_edges())
