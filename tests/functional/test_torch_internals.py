import ast
import importlib
from pathlib import Path

import pytest
import torch
from torch.nn.modules import module as modules

import torch_geometric_flare
from torch_geometric_flare import FLAREConv
from torch_geometric_flare.functional import attention_backend, torch_internals

PACKAGE = Path(torch_geometric_flare.__file__).parent


def private_names(code):
    """Names of torch that begin with one underscore, by attribute or by import."""
    tree, bound = ast.parse(code), set()
    for node in ast.walk(tree):
        module = getattr(node, "module", None) or ""
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "torch":
                    bound.add((alias.asname or alias.name).split(".")[0])
                    if is_private(alias.name):
                        yield alias.name
        elif isinstance(node, ast.ImportFrom) and module.split(".")[0] == "torch":
            for alias in node.names:
                bound.add(alias.asname or alias.name)
                if is_private(f"{module}.{alias.name}"):
                    yield f"{module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            dotted, root = ast.unparse(node), node
            while isinstance(root, ast.Attribute):
                root = root.value
            of_torch = isinstance(root, ast.Name) and root.id in bound
            if of_torch and is_private(dotted):
                yield dotted


def is_private(dotted):
    return any(
        part.startswith("_") and not part.startswith("__") for part in dotted.split(".")
    )


@pytest.mark.parametrize(
    "code",
    [
        "import torch\ntorch._C._has_storage(x)",
        "import torch.nn as t\nt.modules._f()",
        "from torch.nn.modules.module import _has_any_global_hook",
        "from torch._C import f",
        "from torch.autograd import forward_ad as f\nf._current_level",
        "import torch\ntorch.ops.aten._flash(q)",
    ],
)
def test_private_names_are_found(code):
    assert list(private_names(code))
    assert not list(private_names("import torch\ntorch.__version__\nself._C"))


def test_private_names_of_torch_are_in_one_file():
    found = {
        path.relative_to(PACKAGE).as_posix(): list(private_names(path.read_text()))
        for path in PACKAGE.rglob("*.py")
    }
    assert found.pop("functional/torch_internals.py")
    # An override calls what it overrides.
    assert found.pop("nn/models/fno.py") == ["nn.Module._apply"]
    assert {name: uses for name, uses in found.items() if uses} == {}


@pytest.fixture
def without(monkeypatch):
    """Load the file anew as in a torch without some names, and as it was after."""

    def remove(owner, *names):
        for name in names:
            monkeypatch.delattr(owner, name)
        return importlib.reload(torch_internals)

    yield remove
    monkeypatch.undo()
    importlib.reload(torch_internals)


def test_each_name_of_the_core_may_be_missing(without):
    names = ("_are_functorch_transforms_active", "_len_torch_dispatch_stack")
    anew = without(torch._C, *names, "_has_storage")
    assert not anew.is_transformed()
    assert not anew.is_traced()
    x = torch.randn(3)
    assert anew.has_memory(x)
    # A batch of gradients, as `torch.autograd.grad(…, is_grads_batched=True)` makes.
    seen = []
    torch.func.vmap(lambda row: (seen.append(anew.has_memory(row)), row)[1])(x[None])
    assert seen == [False]


def test_forward_mode_may_be_missing(without):
    anew = without(torch.autograd.forward_ad, "_current_level")
    assert not anew.is_transformed()


def test_every_hook_is_seen():
    linear = torch.nn.Linear(2, 2)
    assert not torch_internals.any_hooks([linear])
    for register in (
        linear.register_forward_hook,
        linear.register_forward_pre_hook,
        linear.register_full_backward_hook,
        linear.register_full_backward_pre_hook,
        modules.register_module_forward_hook,
        modules.register_module_forward_pre_hook,
        modules.register_module_full_backward_hook,
    ):
        handle = register(lambda *args: None)
        assert torch_internals.any_hooks([linear]), register
        handle.remove()
        assert not torch_internals.any_hooks([linear])


def test_without_the_fused_kernel_the_formulas_serve(monkeypatch):
    conv = FLAREConv(8, heads=2, num_latents=4).double()
    x = torch.randn(50, 8, dtype=torch.float64, requires_grad=True)

    def results():
        with attention_backend("sdpa"):
            y, state = conv(x), conv.encode(x)
            (grad,) = torch.autograd.grad(y.square().sum(), x)
            return y, grad, *state

    expected = results()
    monkeypatch.setattr(torch_internals, "_FLASH", "_no_such_kernel")
    assert not torch_internals.has_cpu_flash()
    for found, wanted in zip(results(), expected, strict=True):
        torch.testing.assert_close(found, wanted)
