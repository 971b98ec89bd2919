import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

from torch_geometric_flare.experiments import Benchmark, Selection, load_simulated
from torch_geometric_flare.experiments.build import make_module
from torch_geometric_flare.experiments.loading import (
    first_samples,
    number_of_points,
    train_and_val,
)
from torch_geometric_flare.fields import Field
from torch_geometric_flare.nn import FLAREQuery
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.surrogates.query_surrogate import query_points
from torch_geometric_flare.transforms import quadrature_weights

FIELDS = (Field("stress", 1, "MPa"), Field("displacement", 2, "mm"))


@dataclass(frozen=True)
class Plate:
    """Numbers at random on a plate."""

    name: ClassVar[str] = "simulated_plate"
    fields: ClassVar[tuple] = FIELDS
    features: ClassVar[tuple] = (Field("thickness", 1, "mm"),)
    coordinate_bounds: ClassVar[tuple] = ((0.0, 0.0), (2.0, 1.0))

    def sample(self, rng):
        return {
            "pos": rng.random((40, 2)) * (2, 1),
            "stress": rng.normal(300, 20, (40, 1)),
            "displacement": rng.normal(1e-3, 1e-4, (40, 2)),
            "thickness": rng.normal(5, 0.5, (40, 1)),
        }


def load(tmp_path, **change):
    selection = Selection(root=str(tmp_path), **change)
    return load_simulated(Plate(), selection, num_train=4, num_test=2)


class Shell(Plate):
    """A plate whose points have normals."""

    name: ClassVar[str] = "simulated_shell"

    def sample(self, rng):
        return {**super().sample(rng), "normal": rng.normal(size=(40, 2))}


def plates(selection):
    return load_simulated(Shell(), selection, num_train=4, num_test=2)


PLATE = Benchmark(name="plate", sample="plate", load_simulated=plates, recipes={})


def test_features_of_choice_follow_those_of_the_benchmark(tmp_path):
    options = {"root": str(tmp_path), "num_val": 1}
    plain = PLATE.load(Selection(**options))
    for names in ("normal", ("normal",)):
        splits = PLATE.load(Selection(**options, features=names))
        assert splits.features == (*Plate.features, Field("normal", 2))
        given, x = (torch.cat([d.x for d in s.train]) for s in (plain, splits))
        assert torch.equal(x[:, :3], given)
        added = torch.cat([data.normal for data in splits.train])
        assert torch.equal(x[:, 3:], added)
        assert splits.val[0].x.size(1) == splits.test[0].x.size(1) == 5
        normalizer = splits.input_normalizer
        assert torch.equal(normalizer.shift[:3], plain.input_normalizer.shift)
        torch.testing.assert_close(normalizer.scale[3:], added.std(0))
    with pytest.raises(ValueError, match="features has 'area'"):
        PLATE.load(Selection(**options, features="area"))
    mirrored = dataclasses.replace(plain, train_transform=torch.nn.Identity())
    with pytest.raises(ValueError, match="features is .*normal"):
        mirrored.with_features(["normal"])


def test_points_of_a_benchmark_count_by_what_they_stand_for(tmp_path):
    splits = PLATE.load(Selection(root=str(tmp_path), weighted=True))
    assert splits.weighted and not PLATE.load(Selection(root=str(tmp_path))).weighted
    for data in (*splits.train, *splits.test):
        expected = quadrature_weights(data.pos, surface=True)
        torch.testing.assert_close(data.weight, expected / expected.mean())


def test_simulated_splits(tmp_path):
    splits = load(tmp_path)
    assert (len(splits.train), len(splits.test)) == (4, 2)
    assert splits.fields == FIELDS
    y = torch.cat([data.y for data in splits.train])
    torch.testing.assert_close(splits.target_normalizer.shift, y.mean(0))
    torch.testing.assert_close(splits.target_normalizer.scale, y.std(0))
    assert splits.coordinate_normalizer.scale.tolist() == [2.0, 1.0]
    x = torch.cat([data.x for data in splits.train])
    assert splits.input_normalizer.shift[:2].tolist() == [0, 0]
    assert splits.input_normalizer.scale[:2].tolist() == [1, 1]
    torch.testing.assert_close(splits.input_normalizer.shift[2], x[:, 2].mean())
    assert splits.location == "point"
    assert len(load(tmp_path, num_train=5, num_test=1).train) == 5


def test_chosen_fields_are_the_columns_of_y(tmp_path):
    both = load(tmp_path)
    for names, columns in (
        (("displacement",), [1, 2]),
        (("displacement", "stress"), [1, 2, 0]),
    ):
        chosen = load(tmp_path, fields=names)
        assert tuple(field.name for field in chosen.fields) == names
        assert torch.equal(chosen.test[1].y, both.test[1].y[:, columns])
        assert chosen.target_normalizer.num_channels == len(columns)


def test_first_samples():
    assert first_samples(np.arange(5), None, "num_train").tolist() == [0, 1, 2, 3, 4]
    assert first_samples(np.arange(5), 2, "num_train").tolist() == [0, 1]
    with pytest.raises(ValueError, match="num_train is 6, but there are 5 samples"):
        first_samples(np.arange(5), 6, "num_train")


def test_further_simulated_samples_to_validate_on(tmp_path):
    splits, without = load(tmp_path, num_val=3), load(tmp_path)
    assert len(splits.val) == 3 and without.val is None
    for ours, theirs in zip(splits.train, without.train, strict=True):
        assert torch.equal(ours.y, theirs.y)
    known = {data.y[0, 0].item() for data in [*splits.train, *splits.test]}
    assert known.isdisjoint(data.y[0, 0].item() for data in splits.val)


def test_published_samples_to_validate_on():
    def divide(**numbers):
        train, val = train_and_val(np.arange(6), Selection(**numbers))
        return train.tolist(), None if val is None else val.tolist()

    assert divide() == ([0, 1, 2, 3, 4, 5], None)
    assert divide(num_val=2) == ([0, 1, 2, 3], [4, 5])
    assert divide(num_train=3, num_val=2) == ([0, 1, 2], [3, 4])
    for numbers in ({"num_val": 6}, {"num_train": 5, "num_val": 2}):
        with pytest.raises(ValueError, match=r"num_val [26], but there are 6 samples"):
            divide(**numbers)


def test_number_of_points():
    assert number_of_points(None, 7) == 7
    assert number_of_points("4000", 7) == 4000
    assert number_of_points("10K", 7) == 10_000
    assert number_of_points("1m", 7) == 1_000_000
    for text in ("many", "", "-3", "1.5k", "1k0", "k", "0", "1mk", "0k"):
        with pytest.raises(ValueError, match="--num-points is"):
            number_of_points(text, 7)


class Ringed(Plate):
    """A plate with points around it."""

    name: ClassVar[str] = "simulated_ringed"
    query_fields: ClassVar[tuple] = (Field("flux", 2), Field("heat"))
    query_features: ClassVar[tuple] = (Field("distance", 1, "mm"),)
    query_coordinate_bounds: ClassVar[tuple] = ((-2.0, -2.0), (4.0, 3.0))

    def sample(self, rng):
        return {
            **super().sample(rng),
            "query_pos": rng.random((30, 2)) * (6, 5) - 2,
            "query_flux": rng.normal(5, 2, (30, 2)),
            "query_heat": rng.normal(20, 3, 30),
            "query_distance": rng.normal(2, 1, 30),
        }


def test_query_points_of_simulated_splits(tmp_path):
    selection = Selection(root=str(tmp_path), num_val=1)
    splits = load_simulated(Ringed(), selection, num_train=4, num_test=2)
    assert load(tmp_path).query is None
    query = splits.query
    assert query.fields == Ringed.query_fields
    assert query.features == Ringed.query_features
    true = torch.cat([data.query_y for data in splits.train])
    torch.testing.assert_close(query.target_normalizer.shift, true.mean(0))
    encoded = torch.cat([query.encode_input(query_points(d)) for d in splits.train])
    corners = torch.tensor(Ringed.query_coordinate_bounds)
    at = torch.cat([data.query_pos for data in splits.train])
    expected = 2 * (at - corners[0]) / (corners[1] - corners[0]) - 1
    torch.testing.assert_close(encoded[:, :2], expected)
    torch.testing.assert_close(encoded[:, 2].std(), torch.tensor(1.0))
    sizes = {"hidden_channels": 8, "num_layers": 1, "heads": 2, "num_latents": 4}
    recipe = Recipe(model_class=FLAREQuery, model=sizes)
    module = make_module(splits, recipe, "simulated plates")
    y, f = module.surrogate.predict(splits.test[0])
    assert y.shape == (40, 3) and f.shape == (30, 3)
    (sample,) = splits.val
    del sample["query_x"]  # made of positions and features
    assert module.surrogate.predict(sample)[1].isfinite().all()
