import pytest
import torch
from torch.nn.functional import gelu

from torch_geometric_flare.nn import ResidualMLP


def test_formula():
    mlp = ResidualMLP(4, 4, 4, num_layers=1).double()
    first, inner, last = mlp.layers
    x = torch.randn(7, 4, dtype=torch.float64)
    hidden = x + gelu(first(x), approximate="tanh")
    hidden = hidden + gelu(inner(hidden), approximate="tanh")
    torch.testing.assert_close(mlp(x), hidden + last(hidden))


@pytest.mark.parametrize("num_layers", [-1, 0, 2])
def test_residuals_only_where_widths_match(num_layers):
    mlp = ResidualMLP(3, 5, 2, num_layers)
    with torch.no_grad():
        for parameter in mlp.parameters():
            parameter.zero_()
    assert not mlp(torch.randn(7, 3)).any()


@pytest.mark.parametrize("place", [0, -1])
def test_every_layer_is_called_that_something_looks_at(place):
    mlp, x = ResidualMLP(64, 64, 64), torch.randn(1000, 64)
    y = mlp(x)
    seen = []
    hook = mlp.layers[place].register_forward_hook(lambda *a: seen.append(a))
    torch.testing.assert_close(mlp(x), y)
    hook.remove()
    assert len(seen) == 1
    weight = mlp.layers[place].weight.detach().clone()
    torch.nn.utils.parametrizations.weight_norm(mlp.layers[place])
    mlp.layers[place].parametrizations.weight.original0.data *= 2
    doubled = mlp(x)
    plain = ResidualMLP(64, 64, 64)
    for a, b in zip(plain.layers, mlp.layers, strict=True):
        a.weight.data.copy_(b.weight.data)
    torch.testing.assert_close(plain(x), doubled)
    torch.testing.assert_close(plain.layers[place].weight, 2 * weight)
    parameters = {f"layers.{i}.weight": torch.zeros(64, 64) for i in range(4)}
    assert torch.equal(torch.func.functional_call(plain, parameters, x), x)


@pytest.mark.parametrize("widths", [(64, 64, 64), (64, 64, 1), (3, 64, 64)])
@pytest.mark.parametrize("output_residual", [True, False])
def test_large_inputs_give_what_small_ones_give(widths, output_residual):
    mlp = ResidualMLP(*widths, output_residual=output_residual).double()
    for parameter in mlp.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x = torch.randn(1000, widths[0], dtype=torch.float64)
    few = torch.cat([mlp(rows) for rows in x.split(50)])  # layer by layer
    torch.testing.assert_close(mlp(x), few)


def test_hooks_and_replaced_layers_are_called():
    mlp, x = ResidualMLP(64, 64, 64), torch.randn(1000, 64)
    y = mlp(x)
    seen = []
    hook = mlp.layers[1].register_forward_hook(lambda *a: seen.append(a))
    torch.testing.assert_close(mlp(x), y)
    hook.remove()
    assert len(seen) == 1
    seen.clear()
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda *a: seen.append(type(a[0]))
    )
    mlp(x)
    hook.remove()
    assert seen.count(torch.nn.Linear) == len(mlp.layers)
    seen.clear()
    forward = mlp.layers[0].forward
    mlp.layers[0].forward = lambda x: seen.append(x) or forward(x)
    mlp(x)
    assert len(seen) == 1
    mlp.activation = torch.nn.GELU()
    exact = mlp(x)
    assert not torch.equal(exact, y)
    mlp.activation = torch.nn.GELU(approximate="tanh")

    class Doubled(torch.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    mlp.layers[0] = Doubled(64, 64)
    expected = x + gelu(mlp.layers[0](x), approximate="tanh")
    for layer in mlp.layers[1:-1]:
        expected = expected + gelu(layer(expected), approximate="tanh")
    expected = expected + mlp.layers[-1](expected)
    torch.testing.assert_close(mlp(x), expected)


def test_residuals_can_be_switched_off():
    x = torch.randn(7, 4)
    for options, expected in [
        ({}, x),
        ({"input_residual": False}, torch.zeros_like(x)),
        ({"output_residual": False}, torch.zeros_like(x)),
    ]:
        mlp = ResidualMLP(4, 4, 4, **options)
        with torch.no_grad():
            for parameter in mlp.parameters():
                parameter.zero_()
        assert torch.equal(mlp(x), expected)


def test_single_linear_map():
    mlp = ResidualMLP(4, 99, 4, num_layers=-1)
    x = torch.randn(7, 4)
    torch.testing.assert_close(mlp(x), x + mlp.layers[0](x))
    assert len(mlp.layers) == 1


def test_activation_by_name_and_by_callable():
    x = torch.randn(7, 3)
    named, called = (
        ResidualMLP(3, 5, 2, act="relu"),
        ResidualMLP(3, 5, 2, act=torch.relu),
    )
    called.load_state_dict(named.state_dict())
    assert torch.equal(named(x), called(x))


def test_initialisation():
    mlp = ResidualMLP(300, 300, 300)
    for layer in mlp.layers:
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.02)
        assert not layer.bias.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 1, 1), "in_channels is 0"), ((1, 1, 1, -2), "num_layers is -2")],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        ResidualMLP(*arguments)


def test_repr():
    assert str(ResidualMLP(3, 8, 2)) == "ResidualMLP(3, 8, 2, num_layers=2)"


@pytest.mark.parametrize("act", ["prelu", torch.nn.PReLU()])
def test_activation_with_parameters(act):
    mlp = ResidualMLP(3, 5, 2, act=act)
    assert [name for name in mlp.state_dict() if "act" in name] == ["activation.weight"]
    with torch.no_grad():
        mlp.activation.weight.fill_(7)
    mlp.reset_parameters()
    assert mlp.activation.weight.item() == 0.25
