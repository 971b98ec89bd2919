import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_flare.fields import Field
from torch_geometric_flare.metrics import relative_l2
from torch_geometric_flare.nn import FLAREQuery
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.surrogates import QueryPoints, QuerySurrogate
from torch_geometric_flare.training import (
    SurrogateDataModule,
    SurrogateModule,
    compare_with_baselines,
    evaluate,
    evaluate_per_field,
    fit,
    read_history,
)
from torch_geometric_flare.transforms import Normalizer

RECIPE = Recipe(
    model_class=FLAREQuery,
    model={
        "hidden_channels": 8,
        "query_channels": 2,
        "query_out_channels": 3,
        "num_layers": 1,
        "heads": 2,
        "num_latents": 4,
    },
    epochs=2,
    batch_size=2,
)


def sample(seed):
    generator = torch.Generator().manual_seed(seed)
    pos = torch.rand(12 + seed, 2, generator=generator)
    query_pos = torch.rand(9 + 2 * seed, 2, generator=generator)
    query_y = torch.cat([query_pos, query_pos.sum(1, keepdim=True)], 1) + 1
    return Data(pos=pos, y=pos[:, :1] + 1, query_pos=query_pos, query_y=query_y)


def make_module(recipe=RECIPE, **changes):
    torch.manual_seed(0)
    box = Normalizer.from_bounds([0.0] * 2, [1.0] * 2)
    return SurrogateModule(
        recipe.build(2, 1),
        Normalizer([1.5], [0.3]),
        box,
        recipe,
        fields=[Field("pressure")],
        query=QueryPoints(
            Normalizer([1.5] * 3, [0.3] * 3),
            box,
            fields=[Field("velocity", 2), Field("pressure")],
        ),
        **changes,
    )


def test_every_field_of_both_streams_counts_alike():
    module, data = make_module(), sample(0)
    y, f = module(data)
    measured = module.measure((y, f), data)
    errors = {
        "pressure": relative_l2(y, data.y),
        "query_velocity": relative_l2(f[:, :2], data.query_y[:, :2]),
        "query_pressure": relative_l2(f[:, 2:], data.query_y[:, 2:]),
    }
    for name, error in errors.items():
        torch.testing.assert_close(measured[f"relative_l2_{name}"], error.mean())
    torch.testing.assert_close(measured["loss"], sum(errors.values()).mean() / 3)


def test_a_field_of_zeros_at_query_points():
    module, data = make_module(), sample(0)
    data.query_y[:, 2] = 0
    with pytest.warns(UserWarning, match="'pressure' is zero"):
        measured = module.measure(module(data), data)
    assert measured["loss"].isfinite()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_fit(tmp_path, optimizer):
    recipe = Recipe(**{**RECIPE.to_dict(), "optimizer": optimizer})
    samples = [sample(i) for i in range(4)]
    data = SurrogateDataModule(samples, val=samples[:3], batch_size=2)
    surrogate = fit(make_module(recipe), data, tmp_path, progress=False)
    assert type(surrogate) is QuerySurrogate
    history = read_history(tmp_path)
    for name in ("loss", "relative_l2_pressure", "relative_l2_query_velocity"):
        assert f"val_{name}" in history and f"train_{name}" in history
    y, f = surrogate.predict(samples[0])
    assert y.shape == (12, 1) and f.shape == (9, 3)
    again = SurrogateModule.load_from_checkpoint(tmp_path / "last.ckpt")
    torch.testing.assert_close(again.surrogate.predict(samples[0]), (y, f))


def test_evaluate():
    surrogate = make_module().surrogate
    samples = [sample(i) for i in range(3)]
    samples[1].query_y[4, 0] = torch.nan
    with pytest.warns(UserWarning, match="'query_velocity' has 1"):
        errors = evaluate_per_field(surrogate, samples, batch_size=2)
    assert list(errors) == ["pressure", "query_velocity", "query_pressure"]
    for number, data in enumerate(samples):
        y, f = surrogate.predict(data)
        known = data.query_y[:, :2].isfinite().all(1)
        for name, actual, expected in (
            ("pressure", y, data.y),
            ("query_velocity", f[known, :2], data.query_y[known, :2]),
            ("query_pressure", f[:, 2:], data.query_y[:, 2:]),
        ):
            torch.testing.assert_close(
                errors[name][number], relative_l2(actual, expected)[0]
            )
    mean = torch.stack(list(errors.values())).mean(0)
    with pytest.warns(UserWarning, match="query_velocity"):
        torch.testing.assert_close(evaluate(surrogate, samples), mean)


def test_derivatives_need_a_grid():
    recipe = Recipe(**{**RECIPE.to_dict(), "derivative_weight": 0.1})
    with pytest.raises(ValueError, match="^derivative_weight is 0.1"):
        make_module(recipe)


def test_baselines_at_query_points():
    """The fields of the most similar geometry, at its nearest query points."""

    def shifted(offset, value):
        pos = torch.tensor([[0.0, 0.0], [0.1, 0.0]]) + offset
        query_pos = torch.tensor([[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]])[: 2 + value % 2]
        y = torch.arange(3.0)[: len(query_pos), None] + value
        return Data(
            pos=pos,
            y=torch.full((2, 1), float(value)),
            query_pos=query_pos + 0.01 * value,
            query_y=torch.cat([2 * y, 2 * y, y], 1),
        )

    train, test = [shifted(0.0, 10), shifted(0.9, 31)], [shifted(0.8, 20)]
    surrogate = make_module().surrogate
    before = dict(test[0].to_dict())
    found = compare_with_baselines(surrogate, train, test)
    assert test[0].to_dict().keys() == before.keys()
    names = ["pressure", "query_velocity", "query_pressure"]
    assert list(found.per_field) == names
    y, f = surrogate.predict(test[0])
    torch.testing.assert_close(found.predictions, [y])
    torch.testing.assert_close(found.query_predictions, [f])
    true = test[0].query_y
    expected = {
        # Of five query points of both training samples; the second is the nearest, and
        # its first two query points are closest to those of the test sample.
        "relative_l2": f,
        "relative_l2_of_training_mean": torch.cat([d.query_y for d in train]).mean(0),
        "relative_l2_of_nearest_training_sample": train[1].query_y[:2],
    }
    for kind, guess in expected.items():
        guess = guess.expand_as(true)
        for name, columns in (("velocity", slice(2)), ("pressure", slice(2, 3))):
            torch.testing.assert_close(
                found.per_field[f"query_{name}"][kind],
                relative_l2(guess[:, columns].contiguous(), true[:, columns]),
            )
        mean = torch.stack([found.per_field[name][kind] for name in names]).mean(0)
        torch.testing.assert_close(getattr(found, kind), mean)
    assert "relative_l2_query_velocity" in found.mean_errors()
