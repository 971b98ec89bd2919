import pytest
import torch
from torch_geometric.utils import to_dense_batch

from torch_geometric_flare import FLARE, FLAREConv
from torch_geometric_flare.nn import FLAREPP, FLAREPPConv, Transolver

SIZES = (5, 0, 30, 12)


def network(**options):
    return FLARE(3, 8, 2, num_layers=2, heads=2, num_latents=4, **options).double()


def operator(**options):
    return FLAREConv(3, 4, heads=2, num_latents=5, qk_norm=True, **options).double()


def with_latent_blocks():
    return operator(shared_latents=True, latent_blocks=1)


def rows_of(sizes=SIZES):
    x = torch.rand(sum(sizes), 3, dtype=torch.float64)
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return x, batch


def scattered(num_graphs, size, seed=0):
    """Points anywhere in a block, with NaN between them."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(num_graphs, size, generator=generator) > 0.4
    mask[1] = False
    x = torch.full((num_graphs, size, 3), torch.nan, dtype=torch.float64)
    shape = int(mask.sum()), 3
    x[mask] = torch.rand(shape, generator=generator, dtype=torch.float64)
    return x, mask


def gradients(module, y):
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    return torch.autograd.grad((y * weights).sum(), list(module.parameters()))


@pytest.mark.parametrize("make", [network, operator, with_latent_blocks])
def test_padded_graphs_are_graphs(make):
    module = make()
    x, batch = rows_of()
    block, mask = to_dense_batch(x, batch, batch_size=len(SIZES))
    y = module(block, mask)
    assert not y[~mask].any()
    expected = module(x, batch, len(SIZES))
    torch.testing.assert_close(y[mask], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("make", [network, operator, with_latent_blocks])
def test_traced_and_eager_agree_whatever_is_in_the_padding(make):
    module = make()
    torch.compiler.reset()  # the loop of blocks is the same code for all networks
    traced = torch.compile(module, fullgraph=True, backend="eager")
    x, mask = scattered(4, 30)
    results = []
    for call in (module, traced):
        leaf = x.clone().requires_grad_()
        y = call(leaf, mask)
        assert not y[~mask].any()
        (grad,) = torch.autograd.grad(y.square().sum(), leaf, retain_graph=True)
        assert not grad[~mask].any()
        results.append((y, grad, *gradients(module, y)))
    torch.testing.assert_close(results[0], results[1], atol=1e-11, rtol=1e-9)
    alone = torch.zeros_like(results[0][0])
    for graph in range(4):
        alone[graph, mask[graph]] = module(x[graph, mask[graph]])
    torch.testing.assert_close(results[0][0], alone, atol=1e-12, rtol=0)


@pytest.mark.parametrize("make", [network, operator])
def test_one_graph_is_compiled_for_any_sizes(make):
    module, compiled = make(), []

    def backend(graph, example_inputs):
        compiled.append(graph)
        return graph.forward

    torch._dynamo.reset()
    call = torch.compile(module, fullgraph=True, dynamic=True, backend=backend)
    for num_graphs, size in ((4, 30), (3, 17), (7, 200)):
        x, mask = scattered(num_graphs, size)
        torch.testing.assert_close(call(x, mask), module(x, mask), atol=1e-11, rtol=0)
    assert len(compiled) == 1


@pytest.mark.slow
def test_the_default_compiler_takes_it():
    module = network().float()
    call = torch.compile(module, fullgraph=True, dynamic=True)
    for num_graphs, size in ((4, 30), (3, 17)):
        x, mask = scattered(num_graphs, size)
        x = x.float()
        torch.testing.assert_close(call(x, mask), module(x, mask), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("make", [network, operator])
def test_export_leaves_both_sizes_open(make):
    module = make()
    x, mask = scattered(4, 30)
    sizes = {0: torch.export.Dim("graphs"), 1: torch.export.Dim("points")}
    program = torch.export.export(module, (x, mask), dynamic_shapes=(sizes, sizes))
    for num_graphs, size in ((3, 17), (6, 90)):
        x, mask = scattered(num_graphs, size)
        expected = module(x, mask)
        found = program.module()(x, mask)
        torch.testing.assert_close(found, expected, atol=1e-11, rtol=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_onnx_at_other_sizes(tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    module = network().float().eval()
    points = {0: torch.export.Dim("points")}
    block = {0: torch.export.Dim("graphs"), 1: torch.export.Dim("points")}
    x, mask = (t.float() if t.is_floating_point() else t for t in scattered(5, 70))
    x = x.nan_to_num()
    for example, sizes, other in (
        ((torch.rand(50, 3),), (points,), (torch.rand(777, 3),)),
        ((x[:3, :50], mask[:3, :50]), (block, block), (x, mask)),
    ):
        program = torch.onnx.export(module, example, dynamo=True, dynamic_shapes=sizes)
        assert program is not None
        program.save(tmp_path / "network.onnx")
        session = runtime.InferenceSession(str(tmp_path / "network.onnx"))
        names = [entry.name for entry in session.get_inputs()]
        values = [t.numpy() for t in other]
        (found,) = session.run(None, dict(zip(names, values, strict=True)))
        expected = module(*other).detach()
        torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-5, rtol=0)


def test_chunks_and_other_models_take_padded_graphs():
    x, mask = scattered(4, 30)
    module = network()
    expected = module(x, mask)
    module.chunk_size = 7
    torch.testing.assert_close(module(x, mask), expected, atol=1e-12, rtol=0)
    options = {"num_layers": 1, "heads": 2}
    for other in (
        FLAREPP(3, 8, 2, num_latents=4, **options).double(),
        FLAREPPConv(3, 4, heads=2, num_latents=4).double(),
        Transolver(3, 8, 2, num_slices=4, **options).double(),
    ):
        y = other(x, mask)
        for graph in range(4):
            alone = other(x[graph, mask[graph]])
            torch.testing.assert_close(y[graph, mask[graph]], alone)


def test_what_cannot_be_traced_with_a_mask_says_so():
    x, mask = scattered(4, 30)
    for module, message in (
        (FLAREPPConv(3, 4, heads=2, num_latents=4), "FLAREPPConv cannot be traced"),
        (FLAREPP(3, 8, 2, num_layers=1, heads=2), "FLAREPP cannot be traced"),
        (network(chunk_size=7), "chunk_size"),
    ):
        with pytest.raises(ValueError, match=message):
            torch.export.export(module.double(), (x, mask))


@pytest.mark.parametrize("make", [network, operator])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, m: (x, None), r"batch is None: pass a mask \[B, N\]"),
        (lambda x, m: (x, m.long()), r"batch is a torch.int64: expected a mask"),
        (lambda x, m: (x, [1, 2]), r"batch is a list: expected a mask"),
        (lambda x, m: (x, m[:, 1:]), r"mask of shape \(4, 29\), expected \(4, 30\)"),
        (lambda x, m: (x[..., :2], m), r"expected \[N, 3\]"),
        (lambda x, m: (x[m], m[m]), r"batch is a mask, but x has shape"),
        (lambda x, m: (x, m, 5), r"batch_size is 5, but x holds 4 graphs"),
    ],
)
def test_wrong_masks_are_refused(make, change, message):
    with pytest.raises(ValueError, match=message):
        make()(*change(*scattered(4, 30)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [network, operator])
def test_jit_keeps_no_sizes(make):
    module = make()
    x, batch = rows_of()
    for arguments in ((x,), (x, batch)):
        with pytest.raises(TypeError, match=r"use torch\.export\.export"):
            torch.jit.trace(module, arguments, check_trace=False)
    with pytest.raises(TypeError, match=r"use torch\.export\.export"):
        torch.jit.script(module)
    traced = torch.jit.trace(module, scattered(4, 30), check_trace=False)
    x, mask = scattered(6, 90)
    torch.testing.assert_close(traced(x, mask), module(x, mask), atol=1e-11, rtol=0)
