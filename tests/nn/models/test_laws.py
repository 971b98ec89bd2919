"""The laws of `testing`, for each model; what a model is exempt from, and why."""

import copy
import inspect
import pickle
from importlib.util import find_spec

import pytest
import torch

from torch_geometric_flare import (
    FLARE,
    FLAREPP,
    GNOT,
    LNO,
    PerceiverIO,
    PointBatch,
    Transformer,
    Transolver,
)
from torch_geometric_flare.nn import (
    FNO,
    DeepONet,
    FLAREHybrid,
    FLAREQuery,
    Linformer,
    MeshGraphNet,
    Nystromformer,
    Reformer,
    predict_stream,
)
from torch_geometric_flare.surrogates import describe_model
from torch_geometric_flare.testing import (
    assert_batch_invariant,
    assert_chunk_invariant,
    assert_permutation_equivariant,
    assert_point_parallel,
)
from torch_geometric_flare.transforms import KNNEdges, RadiusEdges

from ..sketches import AlongEdges, BothStreams

GRID = (5, 4)
MODELS = {
    "FLARE": lambda: FLARE(3, 8, 2, num_layers=2, heads=2, num_latents=5),
    "FLARE with latent blocks": lambda: FLARE(
        3, 8, 2, 2, 2, 5, shared_latents=True, latent_blocks=1
    ),
    "FLAREPP": lambda: FLAREPP(3, 8, 2, num_layers=2, heads=2, num_latents=5),
    "GNOT": lambda: GNOT(3, 8, 2, num_layers=2, heads=2),
    "GNOT on a grid": lambda: GNOT(
        3, 8, 2, num_layers=2, heads=2, grid=GRID, reference_grid=3
    ),
    "GNOT on a grid with inputs": lambda: GNOT(
        3, 8, 2, num_layers=2, heads=2, grid=GRID, reference_grid=3, embed_inputs=True
    ),
    "LNO": lambda: LNO(3, 8, 2, num_layers=2, heads=2, num_modes=5),
    "Linformer": lambda: Linformer(3, 8, 2, 20, 5, num_layers=2, heads=2),
    "Nystromformer": lambda: Nystromformer(3, 8, 2, 5, num_layers=2, heads=2),
    "Reformer": lambda: Reformer(3, 8, 2, 6, 8, 2, num_layers=2, heads=2),
    "PerceiverIO": lambda: PerceiverIO(3, 8, 2, num_layers=2, heads=2, num_latents=5),
    "Transformer": lambda: Transformer(3, 8, 2, num_layers=2, heads=2),
    "Transolver": lambda: Transolver(3, 8, 2, num_layers=2, heads=2, num_slices=5),
    "Transolver on a grid": lambda: Transolver(
        3, 8, 2, num_layers=2, heads=2, num_slices=5, grid=GRID
    ),
}
BOUND = "bound to one grid, whose places only the rows of a whole graph tell"
NEIGHBOURS = "convolutions on one grid, where each point sees its neighbours"
QUADRATIC = "attention among all points leaves no state that merges"
ON_GRIDS = {
    "GNOT on a grid": BOUND,
    "GNOT on a grid with inputs": BOUND,
    "Transolver on a grid": NEIGHBOURS,
}
PROJECTED = "learned projections have a column for each of num_points points"
SEGMENTS = "landmarks are means of points that follow one another"
SORTED = "points of one bucket are cut into chunks in the order they come in"
ORDERED = {"Linformer": PROJECTED, "Nystromformer": SEGMENTS, "Reformer": SORTED}
WHOLE = {**ORDERED, "Transformer": QUADRATIC}
EXEMPT = {
    "sizes": {**ON_GRIDS, "Linformer": PROJECTED},
    "permutation": {**ON_GRIDS, **ORDERED},
    "chunks": {**WHOLE, "Transolver on a grid": NEIGHBOURS},
    "group": {**ON_GRIDS, **WHOLE},
    "stream": {**ON_GRIDS, **WHOLE},
    "precision": {"Reformer": "rounding moves points to other buckets"},
}
# Models of another forward, which takes edges; they obey the other two laws.
MESSAGES = "messages along edges come from points of other chunks and processes"
WITH_EDGES = {
    "FLAREHybrid": lambda: AlongEdges(
        FLAREHybrid(3, 8, 2, 2, 0.5, num_layers=2, heads=2), RadiusEdges(0.5)
    ),
    "MeshGraphNet": lambda: AlongEdges(
        MeshGraphNet(3, 8, 2, num_layers=2, edge_channels=3), KNNEdges(4)
    ),
}
EXEMPT_WITH_EDGES = {"chunk_size": MESSAGES, "group": MESSAGES}
# A model of another forward, which takes a second set of points; it obeys all laws.
WITH_QUERIES = {
    "FLAREQuery": lambda: BothStreams(
        FLAREQuery(3, 8, 2, 3, 2, num_layers=2, heads=2, num_latents=5)
    ),
}
# Models of whole graphs alone: rows that mean the same place in each, and a forward
# without parts.
IN_ORDER = {
    "DeepONet": lambda: DeepONet(3, 8, 2, num_points=20, num_sensors=7, num_layers=2),
    "FNO": lambda: FNO(3, 8, 2, grid=GRID, num_layers=2, modes=(4, 4)),
}
FOURIER = "Fourier transforms in single precision, and none in bfloat16"
EXEMPT_IN_ORDER = {
    "sizes": {"DeepONet": "a branch over fixed sensors", "FNO": NEIGHBOURS},
    "half": {"FNO": FOURIER},
    "second": {"FNO": FOURIER},
    "compile": {"FNO": "neuraloperator's own code breaks the graph"},
}
ATOL = {"FNO": 1e-4}  # 1e-9 for all others
LINEAR = [name for name in MODELS if name not in EXEMPT["stream"]]


def obeying(law):
    return [name for name in MODELS if name not in EXEMPT[law]]


def in_order(law=None):
    """Return the names of models of rows in one order, but those that are exempt."""
    without = pytest.mark.skipif(
        find_spec("neuralop") is None, reason="neuraloperator is not installed"
    )
    return [
        pytest.param(name, marks=without) if name == "FNO" else name
        for name in IN_ORDER
        if name not in EXEMPT_IN_ORDER.get(law, {})
    ]


def model_of(name):
    """In double precision, with parameters that matter."""
    model = (MODELS | WITH_EDGES | WITH_QUERIES | IN_ORDER)[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model.double()


def sizes_of(name):
    whole = name in EXEMPT["sizes"] or name in EXEMPT_IN_ORDER["sizes"]
    return (20, 0, 20, 20) if whole else (1, 2, 63, 0, 400)


@pytest.mark.parametrize("name", [*MODELS, *WITH_EDGES, *WITH_QUERIES, *in_order()])
def test_batch_mates_change_nothing(name):
    atol = ATOL.get(name, 1e-9)
    assert_batch_invariant(model_of(name), 3, sizes_of(name), atol=atol, rtol=atol)


@pytest.mark.parametrize("name", [*obeying("sizes"), *WITH_QUERIES])
def test_batch_mates_change_nothing_in_other_layouts(name):
    assert_batch_invariant(model_of(name), 3, (10, 700, 20, 705), atol=1e-9)


@pytest.mark.parametrize("name", [*obeying("chunks"), *WITH_QUERIES])
@pytest.mark.parametrize("chunk_size", [7, 45])
def test_chunks_change_nothing(name, chunk_size):
    sizes = (20, 0, 20, 20) if name in EXEMPT["sizes"] else (0, 0, 63, 3, 4, 60)
    assert_chunk_invariant(model_of(name), 3, chunk_size, sizes, atol=1e-9)


@pytest.mark.parametrize("name", [*obeying("group"), *WITH_QUERIES])
@pytest.mark.parametrize(
    ("sizes", "shards", "chunk_size"),
    [((1, 40, 0, 60), None, None), ((0, 2, 0, 30), (20, 0, 12), 8)],
)
def test_processes_change_nothing(name, sizes, shards, chunk_size):
    model = model_of(name)
    model.chunk_size = chunk_size
    world_size = 2 if shards is None else len(shards)
    assert_point_parallel(model, 3, world_size, sizes, shards, atol=1e-9)


@pytest.mark.parametrize("name", obeying("stream"))
def test_from_file_to_file(name):
    model = model_of(name)
    x = torch.randn(300, 3, dtype=torch.float64)
    y = torch.empty(300, 2, dtype=torch.float64)
    predict_stream(model, x, y, 64)
    torch.testing.assert_close(y, model(x), atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("name", [*obeying("permutation"), *WITH_EDGES, *WITH_QUERIES])
def test_the_order_of_points_is_that_of_the_output(name):
    x = torch.randn(100, 3, dtype=torch.float64)
    assert_permutation_equivariant(model_of(name), x, torch.arange(100) // 60)


@pytest.mark.parametrize("law", EXEMPT)
def test_exemptions_are_of_models_in_the_table(law):
    assert EXEMPT[law].keys() <= MODELS.keys()


@pytest.mark.parametrize("name", [*WITH_EDGES, *in_order()])
@pytest.mark.parametrize("argument", EXEMPT_WITH_EDGES)
def test_who_has_no_parts_takes_no_such_argument(name, argument):
    model = IN_ORDER[name]() if name in IN_ORDER else WITH_EDGES[name]().model
    for function in (type(model), model.forward):
        assert argument not in inspect.signature(function).parameters
    with pytest.raises(
        (TypeError, ValueError), match=f"{type(model).__name__}|along edges"
    ):
        predict_stream(model, torch.randn(20, 3), torch.empty(20, 2), 10)


@pytest.mark.parametrize("name", EXEMPT["stream"])
def test_who_cannot_stream_says_so(name):
    x, y = torch.randn(20, 3), torch.empty(20, 2)
    with pytest.raises(ValueError, match=f"model is a {type(MODELS[name]()).__name__}"):
        predict_stream(MODELS[name](), x, y, 10)


@pytest.mark.parametrize("name", EXEMPT["group"])
def test_who_cannot_share_points_says_so(name):
    with pytest.raises(ValueError, match="^group is .*: pass"):
        MODELS[name]()(torch.randn(20, 3), group=object())


@pytest.mark.parametrize("name", EXEMPT["chunks"])
def test_who_cannot_run_in_chunks_says_so(name):
    model = MODELS[name]()
    model.chunk_size = 5
    with pytest.raises(ValueError, match="^chunk_size is 5, .*: pass None"):
        model(torch.randn(20, 3))


@pytest.mark.parametrize("name", [*EXEMPT["sizes"], *in_order()])
def test_who_is_bound_to_a_grid_refuses_other_sizes(name):
    batch = torch.tensor([0] * 20 + [1] * 21)
    with pytest.raises(ValueError, match="graph .* 21 points, .* 20"):
        (MODELS | IN_ORDER)[name]()(torch.randn(41, 3), batch)


@pytest.mark.parametrize("name", [*MODELS, *in_order()])
def test_no_points(name):
    model = model_of(name)
    x = torch.empty(0, 3, dtype=torch.float64, requires_grad=True)
    y = model(x, torch.empty(0, dtype=torch.long), 2)
    assert y.shape == (0, 2)
    y.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("name", obeying("sizes"))
def test_a_single_point(name):
    y = model_of(name)(torch.randn(1, 3, dtype=torch.float64))
    assert y.shape == (1, 2) and torch.isfinite(y).all()


@pytest.mark.parametrize("name", [*MODELS, *in_order()])
def test_a_layout_in_place_of_a_batch_vector(name):
    model, sizes = model_of(name), sizes_of(name)
    x = torch.randn(sum(sizes), 3, dtype=torch.float64)
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    layout = PointBatch.from_sizes(sizes, dtype=torch.float64)
    y = layout.unsort(model(layout.sort(x), layout))
    torch.testing.assert_close(y, model(x, batch))


@pytest.mark.parametrize("name", [*obeying("precision"), *in_order("half")])
def test_lower_precision(name):
    model = model_of(name)
    x = torch.randn(20, 3, dtype=torch.float64)
    expected = model(x)
    single = copy.deepcopy(model).float()
    torch.testing.assert_close(
        single(x.float()).double(), expected, atol=1e-4, rtol=1e-4
    )
    # The projections of Linformer round sums over all points.
    scale = (4 / 3 if name == "Linformer" else 1) * expected.abs().max().item()
    half = copy.deepcopy(model).bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), expected, atol=0.15 * scale, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = single(x.float())
    assert mixed.dtype == torch.bfloat16
    torch.testing.assert_close(mixed.double(), expected, atol=0.15 * scale, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*MODELS, *in_order("compile")])
def test_compile_without_graph_break(name):
    model = model_of(name).float()
    if name in MODELS:
        del model.blocks[1:]  # tracing is slow
    torch.compiler.reset()  # the loop of blocks is the same code for all models
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=True)
    for points in (20,) if 20 in sizes_of(name) else (40, 63):
        x = torch.randn(points, 3)
        torch.testing.assert_close(compiled(x), model(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", [*MODELS, *in_order("second")])
def test_second_derivatives(name):
    model = model_of(name)
    x = torch.randn(20, 3, dtype=torch.float64, requires_grad=True)
    direction = torch.randn_like(x)

    def slope(x):
        return torch.autograd.grad(model(x).square().sum(), x, create_graph=True)[0]

    (found,) = torch.autograd.grad((slope(x) * direction).sum(), x)
    step = 1e-5 * direction
    expected = (slope(x + step) - slope(x - step)) / 2e-5
    torch.testing.assert_close(found, expected.detach(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", [*MODELS, *in_order()])
def test_round_trips(name):
    model = model_of(name)
    x = torch.randn(20, 3, dtype=torch.float64)
    fresh = (MODELS | IN_ORDER)[name]().double()
    fresh.load_state_dict(model.state_dict())
    described = type(model)(**describe_model(model)["arguments"]).double()
    described.load_state_dict(model.state_dict())
    assert str(described) == str(model)
    copies = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    for other in (*copies, fresh, described):
        assert torch.equal(other(x), model(x))


@pytest.mark.parametrize("name", [*MODELS, *in_order()])
def test_reset_parameters_changes_every_parameter(name):
    model = (MODELS | IN_ORDER)[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7)
    model.reset_parameters()
    for parameter_name, parameter in model.named_parameters():
        assert not (parameter == 7).any(), parameter_name


@pytest.mark.slow
@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize(
    ("points", "chunk_size"), [(100_000, None), (1_000_000, 20_000)]
)
def test_a_step_on_many_points(name, points, chunk_size):
    model = MODELS[name]()
    model.chunk_size = chunk_size
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    x = torch.rand(points, 3)
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        loss = (model(x) - x[:, :2].sin()).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[1] < losses[0]
