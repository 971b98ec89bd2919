import pytest
import torch

from torch_geometric_flare.nn import Linformer, Nystromformer, Reformer, Transformer


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


def test_a_landmark_at_each_point_gives_the_transformer():
    model = Nystromformer(3, 8, 1, num_landmarks=12, num_layers=2, heads=2).double()
    reference = Transformer(3, 8, 1, num_layers=2, heads=2).double()
    names = [name.replace(".qkv.", ".maps.") for name in reference.state_dict()]
    reference.load_state_dict(
        dict(
            zip(reference.state_dict(), map(model.state_dict().get, names), strict=True)
        )
    )
    x = torch.randn(12, 3, dtype=torch.float64)
    # Scores near zero make all rows of A alike: spread them, so that it has an inverse.
    for blocks in (model.blocks, reference.blocks):
        for block in blocks:
            linear = getattr(block.mixer, "maps", None) or block.mixer.qkv
            with torch.no_grad():
                linear.weight[:8].copy_(4 * torch.eye(8))
                linear.weight[8:16].copy_(4 * torch.eye(8))
                linear.bias.zero_()
    near = (model(x) - reference(x)).norm() / reference(x).norm()
    assert near < 0.05


def test_points_far_apart_in_order_meet():
    # The buckets, not the order, say who attends to whom.
    torch.manual_seed(0)
    model = Reformer(
        3, 8, 1, num_buckets=4, attention_chunk=8, num_layers=1, heads=1
    ).double()
    x = torch.randn(64, 3, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(model(x)[0].sum(), x)
    reached = grad.abs().sum(1).nonzero().flatten()
    # Two chunks in each of four rounds are what point 0 can see.
    assert 1 < reached.numel() <= 4 * 16 and reached.max() > 16


def test_projections_are_all_that_grows_with_the_points():
    small, large = (
        Linformer(3, 16, 1, num_points=n, num_projections=8, num_layers=2, heads=2)
        for n in (50, 51)
    )
    count = [sum(p.numel() for p in m.parameters()) for m in (small, large)]
    assert count[1] - count[0] == 2 * 2 * 8


@pytest.mark.parametrize("model_class", [Transformer, Nystromformer, Reformer])
def test_chunks_are_refused(model_class):
    match = f"^chunk_size is 10, .*{model_class.__name__}.*: pass None"
    with pytest.raises(ValueError, match=match):
        model_class(3, 8, 1, chunk_size=10)
    model = model_class(3, 8, 1, num_layers=1)
    model.chunk_size = 10
    with pytest.raises(ValueError, match=match):
        model(torch.randn(20, 3))


def test_errors():
    with pytest.raises(ValueError, match="num_layers is 0"):
        Transformer(3, 8, 1, num_layers=0)
    with pytest.raises(ValueError, match="mlp_ratio is 0"):
        Transformer(3, 8, 1, mlp_ratio=0)
    with pytest.raises(ValueError, match="hidden_channels is 8, which .*heads=3"):
        Transformer(3, 8, 1, heads=3)
    with pytest.raises(ValueError, match="num_landmarks is 0"):
        Nystromformer(3, 8, 1, num_landmarks=0)
    with pytest.raises(ValueError, match="num_buckets is 3"):
        Reformer(3, 8, 1, num_buckets=3)
    with pytest.raises(ValueError, match="attention_chunk is 0"):
        Reformer(3, 8, 1, attention_chunk=0)
    with pytest.raises(ValueError, match="num_projections is 0"):
        Linformer(3, 8, 1, num_points=20, num_projections=0)
    with pytest.raises(ValueError, match="^chunk_size is 10, .*Linformer"):
        Linformer(3, 8, 1, num_points=20, chunk_size=10)


def test_linformer_takes_graphs_of_its_size():
    model = Linformer(3, 8, 1, num_points=20, num_layers=1)
    assert model(torch.randn(40, 3), torch.arange(40) // 20).shape == (40, 1)
    with pytest.raises(ValueError, match="^graph 0 has 21 points, expected 20"):
        model(torch.randn(21, 3))


def test_repr():
    sizes = {"num_layers": 2, "heads": 2}
    assert str(Transformer(3, 8, 2, **sizes)) == (
        "Transformer(3, 8, 2, num_layers=2, heads=2)"
    )
    assert str(Nystromformer(3, 8, 2, num_landmarks=4, **sizes)) == (
        "Nystromformer(3, 8, 2, num_layers=2, heads=2, num_landmarks=4)"
    )
    assert str(Reformer(3, 8, 2, **sizes)) == (
        "Reformer(3, 8, 2, num_layers=2, heads=2, num_buckets=32, attention_chunk=64, "
        "num_rounds=4)"
    )
    assert str(Linformer(3, 8, 2, num_points=20, num_projections=4, **sizes)) == (
        "Linformer(3, 8, 2, num_layers=2, heads=2, num_points=20, num_projections=4)"
    )
