"""Ways to hand the conditions of a benchmark to the network."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_flare.experiments import (
    AIRFOIL,
    DARCY,
    PIPE,
    RunConfig,
    Selection,
    run_benchmark,
)
from torch_geometric_flare.experiments.build import make_module
from torch_geometric_flare.experiments.splits import Splits
from torch_geometric_flare.fields import Field
from torch_geometric_flare.nn import FLARE
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.simulation import AirfoilFlow, PipeFlow
from torch_geometric_flare.surrogates import load_surrogate
from torch_geometric_flare.transforms import Normalizer, RandomMirror, WallFeatures

VISCOSITY, GRID = Field("viscosity"), (6, 4)
SIZES = {"hidden_channels": 8, "num_layers": 1, "heads": 2, "num_latents": 4}
RECIPE = Recipe(model_class=FLARE, model=SIZES)


def sample(number):
    generator = torch.Generator().manual_seed(number)
    pos = torch.rand(24, 2, generator=generator)
    u = torch.tensor([[1.0 + number, 3.0]])
    return Data(x=pos.clone(), pos=pos, y=pos[:, :1] * u[0, 0], u=u, grid=GRID)


def make_splits(**changes):
    train, test = [sample(n) for n in range(4)], [sample(n) for n in range(4, 6)]
    return Splits(
        train=train,
        test=test,
        fields=(Field("speed"),),
        target_normalizer=Normalizer.gaussian(data.y for data in train),
        conditions=(VISCOSITY, Field("other")),
        condition_normalizer=Normalizer([2.5, 0.0], [1.0, 2.0]),
        **changes,
    )


def test_film_leaves_them_as_u():
    splits = make_splits().with_conditions("film")
    module = make_module(splits, RECIPE, "simulated pipes")
    surrogate = module.surrogate
    assert surrogate.model.condition_channels == 2
    assert surrogate.condition_bounds == ([1.0, 3.0], [4.0, 3.0])
    assert surrogate.predict(splits.test[0]).shape == (24, 1)


def test_none_leaves_them_out():
    splits = make_splits().with_conditions("none")
    assert all("u" not in data for data in (*splits.train, *splits.test))
    module = make_module(splits, RECIPE, "simulated pipes")
    assert module.surrogate.conditions == ()
    assert module.surrogate.predict(splits.test[0]).shape == (24, 1)
    assert "u" in make_splits().train[0]


def test_broadcast_makes_them_columns():
    before = make_splits()
    splits = before.with_conditions("broadcast")
    for data, old in zip(splits.test, before.test, strict=True):
        assert torch.equal(data.x, torch.cat([old.x, old.u.expand(24, -1)], dim=1))
        assert "u" not in data
    assert "u" not in splits.train[0] and splits.conditions == ()
    module = make_module(splits, RECIPE, "simulated pipes")
    encoded = module.surrogate.encode_input(splits.test[0])
    u = (before.test[0].u - torch.tensor([2.5, 0.0])) / torch.tensor([1.0, 2.0])
    torch.testing.assert_close(encoded[:, 2:], u.expand(24, -1))
    assert module.surrogate.feature_bounds == ([1.0, 3.0], [4.0, 3.0])


@pytest.mark.parametrize("how", ["film", "broadcast", "none"])
def test_mirrored_samples_have_the_opposite_incidence(how):
    wall = WallFeatures(0.1, reach=2.0)
    plain = replace(make_splits(), features=wall.fields(2)).transform(wall)

    def mirror(data):
        return wall(RandomMirror(axis=1, p=1.0, odd=[1])(data))

    splits = replace(plain, train_transform=mirror).with_conditions(how)
    given = splits.train[0].clone()
    data = splits.train_transform(splits.train[0].clone())
    expected = mirror(plain.train[0].clone())
    if how == "film":
        assert data.u.tolist() == [[1.0, -3.0]]
    else:
        assert "u" not in data
    columns = torch.tensor([[1.0, -3.0]]).expand(24, -1)
    x = torch.cat([expected.x, columns], 1) if how == "broadcast" else expected.x
    assert torch.equal(data.x, x)
    assert splits.test[0].x.size(1) == x.size(1)
    assert torch.equal(splits.train[0].x, given.x)
    twice = splits.train_transform(splits.train[0].clone())
    assert torch.equal(twice.x, data.x)
    make_module(splits, RECIPE, "simulated airfoils")


def test_what_cannot_be_asked_for():
    with pytest.raises(ValueError, match="conditions is 'all'"):
        Selection(conditions="all")
    for benchmark, selection in (
        (DARCY, Selection(conditions="film")),
        (PIPE, Selection(data="official", conditions="none")),
    ):
        with pytest.raises(ValueError, match=f"conditions.*{selection.conditions}"):
            benchmark.load(selection)
    with pytest.raises(ValueError, match="conditions is 'film'"):
        replace(make_splits(), conditions=()).with_conditions("film")
    assert [str(field) for field in AIRFOIL.conditions] == ["mach", "incidence (°)"]


@pytest.fixture
def quick(monkeypatch):
    """Small pipes, drawn as large ones."""
    small = PipeFlow(8, 2, viscosity=(0.004, 0.01))
    monkeypatch.setattr("torch_geometric_flare.experiments.pipe._CONDITIONED", small)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["film", "broadcast", "none"])
def test_a_run(tmp_path, quick, how):
    selection = Selection(
        root=str(tmp_path / "data"), num_train=3, num_test=1, conditions=how
    )
    folder = tmp_path / how
    config = RunConfig(
        problem="pipe", selection=selection, steps=2, folder=str(folder), progress=False
    )
    run_benchmark(config)
    surrogate = load_surrogate(folder / "last.ckpt")
    assert surrogate.conditions == ((VISCOSITY,) if how == "film" else ())
    assert surrogate.features == ((VISCOSITY,) if how == "broadcast" else ())
    assert RunConfig.load(folder / "config.yaml").selection.conditions == how


def test_airfoils_at_an_incidence(tmp_path, quick, monkeypatch):
    def sample(self, rng):
        full = (221, 51)
        pos, mach = rng.random((221 * 51, 2)), rng.random((221 * 51, 1))
        numbers = {c.name: rng.random(1) for c in self.conditions}
        return {"pos": pos, "mach_number": mach, "grid": np.array(full), **numbers}

    monkeypatch.setattr(AirfoilFlow, "sample", sample)
    numbers = {"num_train": 2, "num_test": 1, "num_points": 138}
    for how in ("film", "broadcast", "none", None):
        selection = Selection(root=str(tmp_path), conditions=how, **numbers)
        splits = AIRFOIL.load(selection)
        data = splits.train[0].clone()
        u = data.get("u", data.get("conditions"))
        torch.manual_seed(0)
        signs = set()
        for _ in range(16):
            new = splits.train_transform(splits.train[0].clone())
            assert new.x.size(1) == splits.test[0].x.size(1)
            if how in ("film", "broadcast"):
                found = new.u[0] if how == "film" else new.x[0, -2:]
                assert found[0] == u[0, 0] and found[1].abs() == u[0, 1]
                signs.add(found[1].sign().item())
            else:
                assert "u" not in new
        assert signs == ({-1.0, 1.0} if u is not None else set())
        module = make_module(splits, RECIPE, "simulated airfoils")
        for sample in (splits.train[0], splits.test[0]):
            module.surrogate.predict(sample)
