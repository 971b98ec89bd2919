"""PyTorch itself."""

import copy

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint
from torch_geometric.utils import to_dense_batch

from torch_geometric_flare import PointBatch

from .rows import gradients, network, points, row


@pytest.fixture
def one_process(tmp_path):
    dist.init_process_group("gloo", f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


@row("torch.compile")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_compile():
    model, (x, batch) = network(num_layers=1, kv_layers=-1, mlp_layers=-1), points()
    for arguments in ((x,), (x, PointBatch.from_batch(x, batch))):
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        y = compiled(*arguments)
        assert_close(y, model(*arguments))
        assert_close(gradients(model, y), gradients(model, model(*arguments)))
    torch.compiler.reset()
    compiled = torch.compile(model, backend="eager")
    assert_close(compiled(x, batch), model(x, batch))


@row("torch.export")
def test_export():
    model, (x, _) = network().eval(), points()
    rows = torch.export.Dim("rows", min=2, max=1_000_000)
    program = torch.export.export(model, (x,), dynamic_shapes={"x": {0: rows}})
    other = torch.rand(57, 3)
    assert_close(program.module()(other), model(other))
    with pytest.raises(torch.fx.proxy.TraceError):
        torch.fx.symbolic_trace(model)


@row("torch.export of a batch")
def test_export_of_a_batch():
    model, (x, batch) = network().eval(), points()
    sizes = {0: torch.export.Dim("graphs"), 1: torch.export.Dim("points")}
    block = to_dense_batch(x, batch)
    program = torch.export.export(model, block, dynamic_shapes=(sizes, sizes))
    y, mask = torch.rand(4, 31, 3), torch.rand(4, 31) > 0.3
    assert_close(program.module()(y, mask), model(y, mask))


@row("torch.jit")
@pytest.mark.filterwarnings("ignore")  # it is deprecated
def test_jit():
    model, (x, batch) = network().eval(), points()
    for call in (
        lambda: torch.jit.trace(model, (x, batch)),
        lambda: torch.jit.trace(model, (x,)),
        lambda: torch.jit.script(model),
    ):
        with pytest.raises(TypeError, match=r"torch\.export\.export"):
            call()
    traced = torch.jit.trace(model, to_dense_batch(x, batch), check_trace=False)
    y, mask = torch.rand(4, 31, 3), torch.rand(4, 31) > 0.3
    assert_close(traced(y, mask), model(y, mask))


@row("torch.onnx")
@pytest.mark.filterwarnings("ignore")  # of the exporter
def test_onnx(tmp_path):
    pytest.importorskip("onnxscript", reason="needs onnxscript")
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    model, (x, _) = network().eval(), points()
    rows = torch.export.Dim("rows", min=2, max=1_000_000)
    path = tmp_path / "model.onnx"
    shapes = {"x": {0: rows}}
    torch.onnx.export(model, (x,), path, dynamic_shapes=shapes, verbose=False)
    session = runtime.InferenceSession(path)
    other = torch.rand(57, 3)
    (y,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
    assert_close(torch.tensor(y), model(other))


@row("Autocast")
def test_autocast():
    model, (x, batch) = network(), points()
    with torch.autocast("cpu", torch.bfloat16):
        y = model(x, batch)
    assert y.dtype == torch.bfloat16
    expected = model(x, batch)
    error = (y.float() - expected).abs().max() / expected.abs().max()
    assert error < 0.05
    grads = gradients(model, y.float())
    assert all(g.dtype == torch.float32 and g.isfinite().all() for g in grads)


@row("torch.utils.checkpoint")
def test_checkpoint():
    model, (x, batch) = network(), points()
    y = checkpoint(model, x, batch, use_reentrant=False)
    assert_close(gradients(model, y), gradients(model, model(x, batch)))


@row("save_on_cpu")
def test_save_on_cpu():
    model, (x, batch) = network(), points()
    with torch.autograd.graph.save_on_cpu():
        y = model(x, batch)
    assert_close(gradients(model, y), gradients(model, model(x, batch)))


@row("torch.func")
def test_func():
    models, (x, batch) = [network(seed).double() for seed in range(3)], points()
    x = x.double()
    state = torch.func.stack_module_state(models)

    def call(parameters, buffers):
        return torch.func.functional_call(models[0], (parameters, buffers), (x, batch))

    together = torch.func.vmap(call)(*state)
    assert_close(together, torch.stack([model(x, batch) for model in models]))
    few = x[:4]
    jacobian = torch.func.jacrev(models[0])(few)
    assert_close(jacobian, torch.autograd.functional.jacobian(models[0], few))
    assert_close(torch.func.jacfwd(models[0])(few), jacobian)


@row("Second derivatives")
def test_second_derivatives():
    model, (x, batch) = network().double(), points()
    x = x[6:10].double().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: model(x, batch[6:10]), (x,))


@row("AveragedModel")
def test_averaged_model():
    model, (x, batch) = network(), points()
    averaged = AveragedModel(model)
    averaged.update_parameters(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    averaged.update_parameters(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2 / 3)
    assert_close(averaged(x, batch), model(x, batch))


@row("torch.optim")
def test_optimizers():
    x, batch = points()
    target = torch.rand(20, 1)
    for make in (
        lambda ps: torch.optim.AdamW(ps, lr=0.01, fused=True),
        lambda ps: torch.optim.LBFGS(ps, lr=0.1, max_iter=5),
    ):
        model = network()
        optimizer = make(model.parameters())

        def closure(model=model, optimizer=optimizer):
            optimizer.zero_grad()
            loss = (model(x, batch) - target).square().mean()
            loss.backward()
            return loss

        before = closure().item()
        for _ in range(5):
            optimizer.step(closure)
        assert closure().item() < 0.9 * before


@row("DistributedDataParallel")
def test_ddp(one_process):
    model, (x, batch) = network(), points()
    for chunk_size in (None, 5):
        model.chunk_size = chunk_size
        parallel = DistributedDataParallel(copy.deepcopy(model))
        found = gradients_of_step(parallel, x, batch)
        assert_close(found, gradients(model, model(x, batch)))


def gradients_of_step(model, x, batch):
    model(x, batch).square().sum().backward()
    return tuple(parameter.grad for parameter in model.parameters())


@row("fully_shard")
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_fsdp2(one_process):
    model, (x, batch) = network(), points()
    sharded, mesh = copy.deepcopy(model), init_device_mesh("cpu", (1,))
    for block in sharded.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    optimizer = torch.optim.SGD(sharded.parameters(), lr=0.1)
    found = [grad.full_tensor() for grad in gradients_of_step(sharded, x, batch)]
    expected = gradients(model, model(x, batch))
    assert_close(tuple(found), expected)
    optimizer.step()
    with torch.no_grad():
        for parameter, grad in zip(model.parameters(), expected, strict=True):
            parameter.sub_(grad, alpha=0.1)
    assert_close(sharded(x, batch), model(x, batch))


@row("torch.distributed.checkpoint")
@pytest.mark.filterwarnings("ignore:torch.distributed is:UserWarning")
def test_distributed_checkpoint(tmp_path):
    model, (x, batch) = network(), points()
    dcp.save(model.state_dict(), checkpoint_id=tmp_path)
    other = network(1)
    state = other.state_dict()
    dcp.load(state, checkpoint_id=tmp_path)
    other.load_state_dict(state)
    assert torch.equal(other(x, batch), model(x, batch))


@row("Parametrizations, pruning")
def test_parametrizations():
    model, (x, batch) = network(), points()
    first, second = model.blocks[0].mixer.key_mlp.layers[:2]
    expected = model(x, batch)
    parametrizations.weight_norm(second)
    assert_close(model(x, batch), expected)
    prune.l1_unstructured(first, "weight", 0.5)
    pruned = model(x, batch)
    assert not torch.allclose(pruned, expected)
    prune.remove(first, "weight")
    assert (first.weight == 0).float().mean() >= 0.5
    assert_close(model(x, batch), pruned)


@row("Hooks")
def test_hooks():
    model, (x, batch) = network(), points()
    layer = model.blocks[0].mixer.key_mlp.layers[1]
    seen = []
    handle = layer.register_forward_hook(lambda layer, args, y: seen.append(y))
    expected = model(x, batch)
    assert len(seen) == 1 and seen[0].shape == (20, 8)
    handle.remove()
    layer.register_forward_hook(lambda layer, args, y: 0 * y)
    assert not torch.allclose(model(x, batch), expected)
