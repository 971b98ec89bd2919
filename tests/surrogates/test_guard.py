"""The guard: what it compares, its distances and thresholds, and where it travels."""

import copy

import pytest
import pyvista as pv
import torch
from torch import nn
from torch_geometric.data import Batch, Data

from torch_geometric_flare.fields import Field
from torch_geometric_flare.nn import (
    FLARE,
    FLAREPP,
    GNOT,
    LNO,
    FLAREQuery,
    MeshGraphNet,
    PerceiverIO,
    Transolver,
    pooled_states,
)
from torch_geometric_flare.nn.pooled_states import why_no_states
from torch_geometric_flare.recipes import RECIPES
from torch_geometric_flare.surrogates import (
    Guard,
    QueryPoints,
    QuerySurrogate,
    Surrogate,
    load_surrogate,
    save_surrogate,
)
from torch_geometric_flare.surrogates.guard import _shrunk_covariance
from torch_geometric_flare.transforms import Normalizer

MODELS = {
    "FLARE": lambda **a: FLARE(3, 16, 1, num_layers=2, heads=2, num_latents=5, **a),
    "FLAREPP": lambda **a: FLAREPP(3, 16, 1, num_layers=2, heads=2, num_latents=5, **a),
    "Transolver": lambda **a: Transolver(
        3, 16, 1, num_layers=2, heads=2, num_slices=5, **a
    ),
    "PerceiverIO": lambda **a: PerceiverIO(3, 16, 1, heads=2, num_latents=5, **a),
    "LNO": lambda **a: LNO(3, 16, 1, heads=2, num_modes=5, **a),
    "GNOT": lambda **a: GNOT(3, 16, 1, num_layers=2, heads=2, **a),
}


def unit(channels):
    return Normalizer(torch.zeros(channels), torch.ones(channels))


def make_surrogate(seed=0, **options):
    torch.manual_seed(seed)
    model = MODELS["FLARE"](**({"condition_channels": 1} if options else {}))
    return Surrogate(
        model,
        unit(1),
        unit(3),
        fields=[Field("pressure", 1, "Pa")],
        location="point",
        **options,
    )


def box(seed, stretch=1.0, u=None):
    """Points in a box whose height is its only parameter."""
    generator = torch.Generator().manual_seed(seed)
    pos = torch.rand(200, 3, generator=generator)
    height = 0.3 + 0.3 * torch.rand(1, generator=generator)
    pos[:, 2] *= stretch * height
    data = Data(pos=pos)
    if u is not None:
        data.u = torch.tensor([[u]])
    return data


@pytest.mark.parametrize("name", MODELS)
def test_pooled_states_depend_on_the_geometry_alone(name):
    torch.manual_seed(1)
    model = MODELS[name]().double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x, other = torch.rand(50, 3).double(), torch.rand(31, 3).double()
    alone = pooled_states(model, x)
    assert alone.shape[0] == 1 and alone.std() > 0
    together = pooled_states(
        model, torch.cat([other, x]), torch.tensor([0] * 31 + [1] * 50)
    )
    torch.testing.assert_close(together[1:], alone, atol=1e-11, rtol=0)
    torch.testing.assert_close(
        pooled_states(model, x.flip(0)), alone, atol=1e-11, rtol=0
    )
    model.chunk_size = 7
    torch.testing.assert_close(pooled_states(model, x), alone, atol=1e-11, rtol=0)
    assert (pooled_states(model, other) - alone).abs().max() > 1e-6


class _SilentBlock(nn.Module):
    """A user's block whose forward does not call `run_whole`."""

    num_encodes = 1

    def __init__(self, block):
        super().__init__()
        self.block = block

    def encode_rows(self, x, layout, latents=()):
        return self.block.encode_rows(x, layout, latents)

    def process(self, state, latents=()):
        return self.block.process(state, latents)

    def decode_rows(self, latents, x, layout):
        return self.block.decode_rows(latents, x, layout)

    def forward(self, x, layout, group=None):
        latents = self.process(self.encode_rows(x, layout))
        return self.decode_rows(latents, x, layout)


def test_pooled_states_of_blocks_with_their_own_forward():
    torch.manual_seed(0)
    model = MODELS["FLARE"]().double()
    x = torch.rand(20, 3).double()
    expected = pooled_states(model, x)
    model.blocks = nn.ModuleList(_SilentBlock(block) for block in model.blocks)
    torch.testing.assert_close(pooled_states(model, x), expected, atol=1e-12, rtol=0)
    assert model.chunk_size is None


@pytest.mark.parametrize(
    "name", sorted(n for n, *key in RECIPES if key == ["elasticity", "quick"])
)
def test_every_network_has_states_or_a_reason(name):
    torch.manual_seed(0)
    pos = torch.rand(30, 2)
    sample = Data(x=pos, pos=pos, y=torch.rand(30, 1))
    model = RECIPES[name, "elasticity", "quick"].build_for([sample])
    sample.x = torch.rand(30, getattr(model, "in_channels", 2))
    surrogate = Surrogate(model, Normalizer.identity(1))
    if why_no_states(model) is None:
        assert surrogate.summary(sample).isfinite().all()
    else:
        with pytest.raises(ValueError, match=type(model).__name__):
            surrogate.summary(sample)


def test_pooled_states_are_means_over_the_latents():
    torch.manual_seed(0)
    model = FLARE(3, 16, 1, num_layers=1, heads=2, num_latents=5).double()
    x = torch.rand(20, 3).double()
    block = model.blocks[0]
    state = block.mixer.encode(block.mixer_norm(model.lift(x)))
    torch.testing.assert_close(pooled_states(model, x), state.value.mean(2).flatten(1))


def test_weights_and_conditions_reach_the_states():
    torch.manual_seed(0)
    model = MODELS["FLARE"](condition_channels=1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x, u = torch.rand(30, 3), torch.ones(1, 1)
    plain = pooled_states(model, x, u=u)
    assert not torch.allclose(pooled_states(model, x, u=2 * u), plain)
    assert not torch.allclose(pooled_states(model, x, u=u, weight=x[:, 0]), plain)


def test_a_network_without_states_is_refused():
    model = MeshGraphNet(3, 8, 1, num_layers=1, edge_channels=3)
    with pytest.raises(ValueError, match="MeshGraphNet"):
        pooled_states(model, torch.rand(5, 3))


def test_shrunk_covariance_is_that_of_ledoit_and_wolf():
    """Against the definition of the paper, sample by sample."""
    rows = torch.randn(9, 4, dtype=torch.float64, generator=torch.manual_seed(0))
    rows = rows * torch.tensor([1.0, 2.0, 3.0, 9.0])
    rows -= rows.mean(0)
    s = sum(torch.outer(row, row) for row in rows) / 9
    target = torch.eye(4, dtype=torch.float64) * s.trace() / 4
    spread = sum((torch.outer(row, row) - s).square().sum() for row in rows) / 9**2
    share = (spread / (s - target).square().sum()).clamp(max=1)
    assert 0 < share < 1
    torch.testing.assert_close(
        _shrunk_covariance(rows), share * target + (1 - share) * s
    )


def test_more_columns_than_samples_and_constant_columns():
    rows = torch.randn(6, 40, generator=torch.manual_seed(0))
    rows[:, 0], rows[:, 1] = 0.0, 5.0
    guard = Guard.fit(rows, None)
    near, far = rows[:1].clone(), rows[:1].clone()
    near[:, 1], far[:, 1] = 5.0 * (1 + 1e-7), 6.0
    (distances, _) = guard.measure(torch.cat([rows[:1], near, far]))
    assert distances.isfinite().all()
    assert distances[1] < 1.05 * distances[0]
    assert distances[2] > 3 * distances[0]


def test_thresholds_are_conformal_quantiles():
    rows = torch.randn(50, 3, generator=torch.manual_seed(0))
    held_out = torch.randn(120, 3, generator=torch.manual_seed(1))
    guard = Guard.fit(rows, held_out)
    distances = guard.measure(held_out)[0].sort().values
    assert guard.threshold(0.95) == distances[114]  # ceil(121 * 0.95) = 115
    assert guard.threshold(0.99) == distances[119]
    assert guard.held_out and "too few" not in guard.basis
    few = Guard.fit(rows, held_out[:30])
    assert few.threshold(0.99) == few.distances[-1]
    assert "too few" in few.basis


def test_without_held_out_samples_each_is_measured_against_the_others():
    rows = torch.randn(20, 3, generator=torch.manual_seed(0))
    guard = Guard.fit(rows, None)
    assert guard.distances[0] > 0  # a sample is not its own neighbour
    assert guard.measure(rows)[0].max() < guard.distances[-1]
    assert "optimistic" in guard.basis


def test_false_alarms_are_as_rare_as_promised():
    draw = torch.Generator().manual_seed(0)
    rows, held_out, new = (torch.randn(n, 5, generator=draw) for n in (100, 199, 2000))
    guard = Guard.fit(rows, held_out)
    share = (guard.measure(new)[0] > guard.threshold(0.95)).float().mean()
    assert 0.02 < share < 0.09


def test_a_surrogate_tells_other_shapes():
    surrogate = make_surrogate()
    surrogate.fit_guard(
        [box(i) for i in range(30)],
        [box(100 + i) for i in range(99)],
        names=[f"box {i}" for i in range(30)],
    )
    inside = surrogate.judge(box(300))
    outside = surrogate.judge(box(301, stretch=4.0))
    assert inside.label == "inside" and inside.distance < inside.unusual_above
    assert outside.label == "outside" and outside.distance > outside.outside_above
    twin = surrogate.judge(box(7))
    assert twin.nearest[0] == "box 7"
    for part in ("outside", "99 held-out", outside.nearest[0]):
        assert part in str(outside)


def test_a_batch_has_a_row_for_each_sample():
    surrogate = make_surrogate()
    samples = [box(0), box(1)]
    rows = surrogate.summary(Batch.from_data_list(samples))
    each = torch.cat([surrogate.summary(copy.copy(s)) for s in samples])
    torch.testing.assert_close(rows, each, atol=1e-5, rtol=1e-5)


def test_a_condition_out_of_range_is_named():
    surrogate = make_surrogate(
        conditions=[Field("speed", 1, "m/s")],
        condition_normalizer=Normalizer(torch.tensor([40.0]), torch.tensor([10.0])),
    )
    train = [box(i, u=30.0 + i) for i in range(20)]
    surrogate.fit_guard(train, [box(100 + i, u=40.0) for i in range(99)])
    assert surrogate.judge(box(7, u=37.0)).out_of_range == ()
    verdict = surrogate.judge(box(7, u=400.0))
    assert verdict.label == "outside"
    (text,) = verdict.out_of_range
    assert text.startswith("speed is 400 m/s") and text.endswith("30 to 49 m/s")
    assert text in str(verdict)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_it_travels(kind, tmp_path):
    surrogate = make_surrogate()
    surrogate.fit_guard([box(i) for i in range(10)], names=[f"b{i}" for i in range(10)])
    if kind == "file":
        save_surrogate(surrogate, tmp_path / "s.pt")
        loaded = load_surrogate(tmp_path / "s.pt")
    else:
        pytest.importorskip("safetensors")
        surrogate.save_pretrained(tmp_path)
        assert "10 of the training" in (tmp_path / "README.md").read_text()
        loaded = Surrogate.from_pretrained(tmp_path)
    assert loaded.judge(box(50)) == surrogate.judge(box(50))
    assert torch.equal(loaded.predict(box(50)), surrogate.predict(box(50)))


def test_a_file_without_one_loads_and_says_so(tmp_path):
    save_surrogate(make_surrogate(), tmp_path / "s.pt")
    loaded = load_surrogate(tmp_path / "s.pt")
    assert loaded.guard is None
    with pytest.raises(ValueError, match="fit_guard"):
        loaded.judge(box(0))
    mesh = loaded.predict_mesh(pv.PolyData(box(0).pos.numpy()))
    assert "no guard" in mesh.field_data["guard"][0]


def test_a_malformed_one_is_refused(tmp_path):
    surrogate = make_surrogate()
    surrogate.fit_guard([box(i) for i in range(10)])
    save_surrogate(surrogate, tmp_path / "s.pt")
    content = torch.load(tmp_path / "s.pt", weights_only=True)
    for name, value in (("names", ["one"]), ("distances", torch.empty(0))):
        torch.save(
            {**content, "guard": {**content["guard"], name: value}}, tmp_path / "t.pt"
        )
        with pytest.raises(ValueError, match=r"t\.pt.*guard"):
            load_surrogate(tmp_path / "t.pt")


@pytest.mark.parametrize("names", [["a"], []])
def test_arguments_that_do_not_fit_are_refused(names):
    surrogate = make_surrogate()
    train = [box(i) for i in range(6)]
    with pytest.raises(ValueError, match="names"):
        surrogate.fit_guard(train, names=names)
    with pytest.raises(ValueError, match="train has 4"):
        surrogate.fit_guard(train[:4])
    with pytest.raises(ValueError, match="held_out"):
        surrogate.fit_guard(train, [])


def test_a_mesh_carries_the_verdict():
    surrogate = make_surrogate()
    surrogate.fit_guard([box(i) for i in range(20)], [box(100 + i) for i in range(99)])
    usual = pv.PolyData(box(300).pos.numpy())
    expected = surrogate.judge(box(300))
    mesh = surrogate.predict_mesh(usual, guard="error")
    assert mesh.field_data["guard"][0] == str(expected)
    assert "outside_box" not in mesh.point_data
    tall = pv.PolyData(box(301, stretch=3.0).pos.numpy())
    with pytest.warns(UserWarning, match="outside"):
        mesh = surrogate.predict_mesh(tall)
    outside = (tall.points[:, 2] > 1 + 1e-5).astype("uint8")
    assert outside.sum() > 0 and (mesh["outside_box"] == outside).all()
    with pytest.raises(ValueError, match="outside"):
        surrogate.predict_mesh(tall, guard="error")
    mesh = surrogate.predict_mesh(usual, guard="off")
    assert mesh.field_data["guard"][0] == "off"
    with pytest.raises(ValueError, match="'no'"):
        surrogate.predict_mesh(usual, guard="no")


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("chunk_size", [None, 30])
def test_one_pass_gives_fields_and_summary(name, chunk_size):
    torch.manual_seed(0)
    options = {} if name == "LNO" else {"condition_channels": 1}
    model = MODELS[name](**options)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.chunk_size = chunk_size
    conditions = [Field("speed")] if options else []
    surrogate = Surrogate(model, unit(1), unit(3), conditions=conditions)
    passed = []
    model.lift.register_forward_hook(lambda *call: passed.append(len(call[-1])))
    samples = [box(0), box(1)]
    for number, sample in enumerate(samples if options else []):
        sample.u = torch.tensor([[2.0 + number]])
    data = Batch.from_data_list(samples)
    fields, rows = surrogate.predict_with_summary(data)
    assert sum(passed) == 400
    assert torch.equal(fields, surrogate.predict(data))
    assert torch.equal(rows, surrogate.summary(data))
    each = [surrogate.summary(copy.copy(sample)) for sample in samples]
    torch.testing.assert_close(rows, torch.cat(each), atol=1e-4, rtol=1e-4)


def test_a_compiled_network_takes_a_second_pass():
    surrogate = make_surrogate()
    expected = surrogate.predict_with_summary(box(0))
    surrogate.model = torch.compile(surrogate.model, backend="eager")
    for found, known in zip(
        surrogate.predict_with_summary(box(0)), expected, strict=True
    ):
        torch.testing.assert_close(found, known, atol=1e-5, rtol=1e-4)


def test_a_mesh_with_a_guard_is_passed_once():
    surrogate = make_surrogate()
    surrogate.fit_guard([box(i) for i in range(20)], [box(100 + i) for i in range(99)])
    passed = []
    key_mlp = surrogate.model.blocks[0].mixer.key_mlp
    key_mlp.register_forward_hook(lambda *call: passed.append(len(call[-1])))
    mesh = pv.PolyData(box(300).pos.numpy())
    found = surrogate.predict_mesh(mesh)
    assert passed == [200]
    plain = surrogate.predict_mesh(mesh, guard="off")
    assert (found["pressure"] == plain["pressure"]).all()


def test_query_surrogates_compare_their_source_points():
    torch.manual_seed(0)
    model = FLAREQuery(3, 16, 1, 3, 2, num_layers=2, heads=2, num_latents=5)
    surrogate = QuerySurrogate(
        model, unit(1), unit(3), query=QueryPoints(unit(2), unit(3))
    )
    samples = [box(i) for i in range(10)]
    for sample in samples:
        sample.query_pos = torch.rand(7, 3)
    surrogate.fit_guard(samples)
    verdict = surrogate.judge(samples[3])
    assert verdict == surrogate.source().judge(samples[3])
    assert verdict == surrogate.judge(box(3))
    state = surrogate.encode(samples[3])
    torch.testing.assert_close(state.pooled(), surrogate.summary(samples[3]))
    mesh = pv.PolyData(samples[3].pos.numpy())
    around = surrogate.predict_around(mesh, pv.PolyData([[0.5, 0.5, 0.5]]))
    assert (
        str(around.field_data["guard"][0]).split(",")[0] == str(verdict).split(",")[0]
    )
