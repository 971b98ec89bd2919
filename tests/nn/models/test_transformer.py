import pytest
import torch

from torch_geometric_flare import Transformer


def test_published_parameter_count():
    model = Transformer(2, 80, 1, num_layers=8, heads=5, mlp_ratio=4)
    assert sum(p.numel() for p in model.parameters()) == 662_081


def test_every_point_sees_every_other_of_its_graph_and_none_elsewhere():
    model = Transformer(3, 8, 1, num_layers=1, heads=2).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4)
    batch = torch.tensor([0] * 4 + [1] * 6)
    x = torch.randn(10, 3, dtype=torch.float64)

    def forward(x):
        return model(x, batch)[:, 0]

    jacobian = torch.autograd.functional.jacobian(forward, x).abs().sum(-1)
    same = batch[:, None] == batch
    assert (jacobian[same] > 0).all() and (jacobian[~same] == 0).all()


def test_memory_of_attention_is_linear():
    # No tensor grows with the square of a graph's 5,000 points, here 25 million.
    model = Transformer(3, 8, 1, num_layers=1, heads=1).eval()
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            for t in torch.utils._pytree.tree_leaves(out):
                if isinstance(t, torch.Tensor):
                    largest = max(largest, t.numel())
            return out

    with torch.no_grad(), Watch():
        model(torch.randn(10_000, 3), torch.arange(10_000) // 5_000)
    assert 10_000 <= largest <= 10_000 * 32


def test_errors():
    with pytest.raises(ValueError, match="^chunk_size is 10, but Transformer needs"):
        Transformer(3, 8, 1, chunk_size=10)
    model = Transformer(3, 8, 1, num_layers=1)
    model.chunk_size = 10
    with pytest.raises(ValueError, match="^chunk_size is 10, but Transformer needs"):
        model(torch.randn(20, 3))
    with pytest.raises(ValueError, match="num_layers is 0"):
        Transformer(3, 8, 1, num_layers=0)
    with pytest.raises(ValueError, match="mlp_ratio is 0"):
        Transformer(3, 8, 1, mlp_ratio=0)
    with pytest.raises(ValueError, match="hidden_channels is 8, which heads=3"):
        Transformer(3, 8, 1, heads=3)


def test_repr():
    model = Transformer(3, 8, 2, num_layers=2, heads=2)
    assert str(model) == "Transformer(3, 8, 2, num_layers=2, heads=2)"
