import pytest
import torch
from torch_geometric.data import Batch, Data

from torch_geometric_flare import FLARE
from torch_geometric_flare.fields import Field
from torch_geometric_flare.nn import FLAREQuery
from torch_geometric_flare.surrogates import (
    QueryPoints,
    QuerySurrogate,
    Surrogate,
    load_surrogate,
    save_surrogate,
)
from torch_geometric_flare.surrogates.model_card import model_card
from torch_geometric_flare.transforms import Normalizer

FOLLOW = ["query_pos", "query_x"]


def query_side(**changes):
    given = {
        "fields": [Field("velocity", 2, "m/s"), Field("pressure")],
        "features": [Field("sdf")],
        "input_normalizer": Normalizer([0.5] * 3, [0.25] * 3),
    }
    return QueryPoints(
        Normalizer([1.0, 2.0, 30.0], [4.0, 5.0, 6.0]),
        Normalizer.from_bounds([-4.0] * 2, [8.0] * 2),
        **{**given, **changes},
    )


def make_surrogate(query=None, **changes):
    torch.manual_seed(0)
    model = FLAREQuery(2, 8, 1, 3, 3, 2, 2, 5, 1, 1, condition_channels=1, **changes)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return QuerySurrogate(
        model,
        Normalizer([20.0], [7.0]),
        Normalizer.from_bounds([0.0] * 2, [4.0] * 2),
        "simulated things",
        fields=[Field("pressure")],
        weighted=True,
        conditions=[Field("speed")],
        condition_normalizer=Normalizer([3.0], [2.0]),
        query=query_side() if query is None else query,
    )


def sample(seed=0, points=30, queries=20):
    generator = torch.Generator().manual_seed(seed)
    pos, query_pos, sdf, weight = (
        torch.rand(shape, generator=generator)
        for shape in ((points, 2), (queries, 2), (queries, 1), (points,))
    )
    return Data(
        pos=4 * pos,
        query_pos=8 * query_pos - 2,
        query_sdf=sdf,
        weight=weight + 0.1,
        u=torch.tensor([[2.0 + seed]]),
        y=pos[:, :1] + 20,
        query_y=query_pos.repeat(1, 2)[:, :3],
    )


def test_the_steps_of_a_prediction():
    surrogate, data = make_surrogate(), sample()
    x = data.pos / 4
    query_x = torch.cat([(data.query_pos + 4) / 12, data.query_sdf], 1)
    y, f = surrogate.model(
        x, (query_x - 0.5) / 0.25, u=(data.u - 3) / 2, weight=data.weight
    )
    actual = surrogate.predict(data)
    torch.testing.assert_close(actual[0], y * 7 + 20)
    scale, shift = torch.tensor([4.0, 5.0, 6.0]), torch.tensor([1.0, 2.0, 30.0])
    torch.testing.assert_close(actual[1], f * scale + shift)
    assert list(surrogate.query.split(actual[1])) == ["velocity", "pressure"]
    assert "query_x" not in data and "query_batch" not in data


def test_encode_once_predict_anywhere():
    surrogate, data = make_surrogate(), sample()
    _, expected = surrogate.predict(data)
    state = surrogate.encode(data)
    torch.testing.assert_close(surrogate.predict_at(state, data), expected)
    part = Data(query_pos=data.query_pos[4:9], query_sdf=data.query_sdf[4:9])
    torch.testing.assert_close(surrogate.predict_at(state, part), expected[4:9])
    geometry = data.clone()
    for name in ("query_pos", "query_sdf", "query_y"):
        del geometry[name]
    assert torch.equal(surrogate.encode(geometry).value, state.value)


def test_positions_alone():
    side = query_side(features=(), input_normalizer=None, fourier_octaves=1)
    torch.manual_seed(0)
    model = FLAREQuery(2, 8, 1, 6, 3, 2, 2, 5)
    surrogate = QuerySurrogate(
        model,
        Normalizer([20.0], [7.0]),
        Normalizer.from_bounds([0.0] * 2, [4.0] * 2),
        query=side,
    )
    surface, air = torch.rand(30, 2), torch.rand(9, 2)
    fields = surrogate.predict_at(surrogate.encode(surface), air)
    _, expected = surrogate.predict(Data(pos=surface, query_pos=air))
    torch.testing.assert_close(fields, expected)


def test_batches_of_unequal_samples():
    surrogate = make_surrogate()
    samples = [sample(0, 30, 20), sample(1, 8, 41), sample(2, 19, 1)]
    batch = Batch.from_data_list(samples, follow_batch=FOLLOW)
    y, f = surrogate.predict(batch)
    alone = [surrogate.predict(data) for data in samples]
    torch.testing.assert_close(y, torch.cat([one for one, _ in alone]))
    torch.testing.assert_close(f, torch.cat([two for _, two in alone]))
    state = surrogate.encode(batch)
    torch.testing.assert_close(surrogate.predict_at(state, batch), f)


def test_a_batch_that_does_not_say_whose_its_queries_are():
    batch = Batch.from_data_list([sample(0), sample(1)])
    with pytest.raises(ValueError, match="query_pos_batch.*follow_batch"):
        make_surrogate().predict(batch)


@pytest.mark.parametrize("missing", ["query_pos", "query_sdf"])
def test_what_a_sample_lacks(missing):
    data = sample()
    del data[missing]
    with pytest.raises(ValueError, match=missing.removeprefix("query_")):
        make_surrogate().predict(data)


def test_queries_without_anything_that_encodes_them():
    side = QueryPoints(Normalizer([0.0] * 3, [1.0] * 3))
    with pytest.raises(ValueError, match="query_x"):
        make_surrogate(side).predict(sample())


def test_a_model_without_queries():
    with pytest.raises(ValueError, match="^query is given.*FLARE"):
        QuerySurrogate(
            FLARE(2, 8, 1, 1, 2, 4), Normalizer([0.0], [1.0]), query=query_side()
        )


def test_the_source_is_a_surrogate_of_the_same_weights():
    surrogate, data = make_surrogate(), sample()
    source = surrogate.source()
    assert type(source) is Surrogate
    torch.testing.assert_close(source.predict(data), surrogate.predict(data)[0])
    assert source.model is surrogate.model.source


def test_a_mesh_is_the_geometry():
    pv = pytest.importorskip("pyvista")
    torch.manual_seed(0)
    surrogate = QuerySurrogate(
        FLAREQuery(3, 8, 1, 3, 1, 1, 2, 4),
        Normalizer([20.0], [7.0]),
        Normalizer.from_bounds([-1.0] * 3, [1.0] * 3),
        fields=[Field("pressure")],
        query=QueryPoints(
            Normalizer([0.0], [1.0]), Normalizer.from_bounds([-1.0] * 3, [1.0] * 3)
        ),
    )
    mesh = pv.Sphere(theta_resolution=6, phi_resolution=6)
    pressure = surrogate.predict_mesh(mesh, location="point")["pressure"]
    expected = surrogate.source().predict(torch.from_numpy(mesh.points.copy()))
    torch.testing.assert_close(torch.from_numpy(pressure), expected.squeeze(1))


def test_files(tmp_path):
    surrogate, data = make_surrogate(chunk_size=16), sample()
    save_surrogate(surrogate, tmp_path / "one.pt")
    loaded = load_surrogate(tmp_path / "one.pt")
    assert type(loaded) is QuerySurrogate
    assert loaded.query.fields == surrogate.query.fields
    assert loaded.query.features == surrogate.query.features
    for actual, expected in zip(
        loaded.predict(data), surrogate.predict(data), strict=True
    ):
        assert torch.equal(actual, expected)


def test_folders(tmp_path):
    pytest.importorskip("safetensors")
    surrogate, data = make_surrogate(), sample()
    surrogate.save_pretrained(tmp_path)
    loaded = QuerySurrogate.from_pretrained(tmp_path)
    assert torch.equal(loaded.predict(data)[1], surrogate.predict(data)[1])
    with pytest.raises(ValueError, match="QuerySurrogate"):
        Surrogate.from_pretrained(tmp_path)
    source = surrogate.source()
    source.save_pretrained(tmp_path)
    flare = FLARE(2, 8, 1, 2, 2, 5, 1, 1, condition_channels=1)
    actual = Surrogate.from_pretrained(tmp_path, flare).predict(data)
    assert torch.equal(actual, source.predict(data))
    with pytest.raises(ValueError, match="load it as a Surrogate"):
        QuerySurrogate.from_pretrained(tmp_path, surrogate.model)


def test_the_card_names_the_fields_of_both():
    text = model_card(make_surrogate(), {})
    assert "velocity" in text and "sdf" in text and "QuerySurrogate" in text
