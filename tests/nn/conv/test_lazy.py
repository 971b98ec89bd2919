"""Operators that take the width of their input from the first one."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from torch_geometric_flare.nn import FLAREConv, FLAREPPConv, ResidualMLP

MODULES = {
    "conv": lambda width: FLAREConv(width, 8, heads=2, num_latents=5),
    "linear keys": lambda width: FLAREConv(width, 8, heads=2, kv_layers=-1),
    "flarepp": lambda width: FLAREPPConv(width, 8, heads=2, num_latents=5),
    "mlp": lambda width: ResidualMLP(width, 8, 8),
    "residual mlp": lambda width: ResidualMLP(width, 6, 8, 1),
    "no bias": lambda width: FLAREConv(width, 8, heads=2, bias=False),
}


@pytest.fixture(params=MODULES)
def make(request):
    return MODULES[request.param]


def points(width=6):
    return torch.randn(30, width)


def is_waiting(module):
    return any(is_lazy(parameter) for parameter in module.parameters())


def test_the_first_input_sets_the_width(make):
    lazy, eager = make(-1), make(6)
    assert is_waiting(lazy) and "(-1, " in str(lazy)
    x = points()
    assert lazy(x).shape == (30, 8)
    assert not is_waiting(lazy)
    assert lazy.in_channels == 6 and str(lazy) == str(eager)
    # What is left is the module that a width makes, down to the classes of its parts.
    assert [type(m) for m in lazy.modules()] == [type(m) for m in eager.modules()]
    eager.load_state_dict(lazy.state_dict())
    assert torch.equal(eager(x), lazy(x))


def test_another_width_is_refused_afterwards():
    for lazy in (FLAREConv(-1, 8), FLAREPPConv(-1, 8)):
        lazy(points())
        with pytest.raises(
            ValueError, match=r"x has shape \(30, 5\), expected \[N, 6\]"
        ):
            lazy(points(5))


@pytest.mark.parametrize("shape", [(1, 2, 5, 6), (5, 0), ()])
def test_a_first_input_that_sets_no_width(shape):
    x = torch.ones(shape)
    for lazy in (FLAREConv(-1, 8), FLAREPPConv(-1, 8), FLAREConv((-1, -1), 8)):
        with pytest.raises(
            ValueError, match=r"expected \[N, C\]: the first input sets"
        ):
            lazy((x, x) if isinstance(lazy.in_channels, tuple) else x)
        assert is_waiting(lazy)


def test_initial_values_are_those_of_a_known_width(make):
    torch.manual_seed(0)
    lazy = make(-1)
    lazy(points())
    spread = {name: p.std().item() for name, p in lazy.named_parameters()}
    drawn = {name: [] for name in spread}
    for _ in range(20):
        for name, parameter in make(6).named_parameters():
            drawn[name].append(parameter.std().item())
    for name, found in spread.items():
        if len(next(p for n, p in lazy.named_parameters() if n == name)) > 2:
            assert 0.8 * min(drawn[name]) <= found <= 1.2 * max(drawn[name]), name


def test_a_reset_before_and_after(make):
    lazy = make(-1)
    lazy.reset_parameters()
    assert is_waiting(lazy)
    lazy(points())
    with torch.no_grad():
        for parameter in lazy.parameters():
            parameter.fill_(7)
    lazy.reset_parameters()
    for name, parameter in lazy.named_parameters():
        assert not (parameter == 7).any(), name


def test_a_state_sets_the_width(make):
    trained, x = make(6), points()
    file = io.BytesIO()
    torch.save(trained.state_dict(), file)
    file.seek(0)
    lazy = nn.Sequential(make(-1))  # as a part of a network
    state = {f"0.{k}": v for k, v in torch.load(file, weights_only=True).items()}
    lazy.load_state_dict(state)
    assert not is_waiting(lazy) and lazy[0].in_channels == 6
    assert str(lazy[0]) == str(trained)
    assert torch.equal(lazy(x), trained(x))
    assert [type(m) for m in lazy[0].modules()] == [type(m) for m in trained.modules()]


def test_a_state_without_a_width_keeps_waiting(make):
    lazy = make(-1)
    lazy.load_state_dict(make(-1).state_dict())
    assert is_waiting(lazy) and lazy.in_channels == -1
    assert lazy(points()).shape == (30, 8)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_copies(make, copied):
    lazy, x = make(-1), points()
    before = copied(lazy)
    assert before(x).shape == (30, 8)
    assert is_waiting(lazy) and lazy.in_channels == -1  # a copy sets its own width
    lazy(x)
    assert torch.equal(copied(lazy)(x), lazy(x))


def test_the_dtype_is_the_module_s(make):
    lazy = make(-1).double()
    assert lazy(points().double()).dtype == torch.float64
    assert all(p.dtype == torch.float64 for p in lazy.parameters())


def test_an_optimizer_made_before_the_first_input_trains_all(make):
    lazy, x = make(-1), points()
    optimizer = torch.optim.SGD(lazy.parameters(), lr=0.1)
    lazy(x).square().sum().backward()
    before = [parameter.detach().clone() for parameter in lazy.parameters()]
    optimizer.step()
    for old, parameter in zip(before, lazy.parameters(), strict=True):
        assert not torch.equal(old, parameter)


def test_use_before_the_first_input_is_torch_s_own_error():
    lazy = FLAREConv(-1, 8)
    with pytest.raises(ValueError, match="Attempted to use an uninitialized parameter"):
        sum(parameter.sum() for parameter in lazy.parameters())
    with pytest.raises(ValueError, match="Call `forward` with a dummy batch"):
        nn.utils.clip_grad_norm_([p + 0 for p in lazy.parameters()], 1.0)


def test_all_ways_in_set_the_width():
    x = points()
    for call in (
        lambda conv: conv.encode(x),
        lambda conv: conv.attention_weights(x),
        lambda conv: conv((x, x)),
    ):
        lazy = FLAREConv(-1, 8)
        call(lazy)
        assert lazy.in_channels == 6 and not is_waiting(lazy)
    lazy = FLAREConv(-1, 8, chunk_size=7)
    expected = copy.deepcopy(lazy)
    torch.manual_seed(1)
    y = lazy(x)
    torch.manual_seed(1)
    expected.chunk_size = None
    torch.testing.assert_close(y, expected(x))


@pytest.mark.cuda
def test_the_device_is_the_module_s(make):
    lazy = make(-1).to("cuda")
    assert lazy(points().to("cuda")).shape == (30, 8)
    assert all(p.device.type == "cuda" for p in lazy.parameters())


@pytest.mark.parametrize("width", [-2, 0, -1.0, None, True])
def test_widths_that_make_no_sense(width):
    for kind in (FLAREConv, FLAREPPConv):
        with pytest.raises(ValueError, match="in_channels is .*, or -1 for the width"):
            kind(width, 8)
    with pytest.raises(ValueError, match="in_channels is"):
        FLAREConv((8, width), 8)


@pytest.mark.parametrize("width", [-1, (-1, -1), (6, 6)])
def test_an_output_width_is_needed(width):
    for kind in (FLAREConv, FLAREPPConv) if width == -1 else (FLAREConv,):
        with pytest.raises(ValueError, match="out_channels is None, .* no default"):
            kind(width)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize(
    "kind", [FLAREConv, pytest.param(FLAREPPConv, marks=pytest.mark.slow)]
)
def test_compiled_before_the_first_input(kind):
    lazy, x = kind(-1, 8), points()
    compiled = torch.compile(lazy, backend="eager")
    y = compiled(x)
    assert lazy.in_channels == 6
    torch.testing.assert_close(y, lazy(x))
