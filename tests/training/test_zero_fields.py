import math

import pytest
import torch

from torch_geometric_flare.training import (
    SurrogateDataModule,
    SurrogateModule,
    compare_with_baselines,
    evaluate,
    evaluate_per_field,
    fit,
)

SCALE = 7.0  # of the target normaliser of these modules


def with_zero(samples, number):
    split = samples(5, 0)
    split[number].y = torch.zeros_like(split[number].y)
    return split


@pytest.mark.parametrize("number, batch_size", [(4, 2), (0, 1), (3, 5)])
def test_evaluate_measures_a_zero_field_in_units_of_the_scale(
    module, samples, number, batch_size
):
    surrogate, split = module().surrogate, with_zero(samples, number)
    with pytest.warns(UserWarning, match=rf"'field'.* {number}\b"):
        errors = evaluate(surrogate, split, batch_size)
    for index, data in enumerate(split):
        error = (surrogate.predict(data) - data.y).square().mean().sqrt()
        unit = SCALE if index == number else data.y.square().mean().sqrt()
        assert errors[index].item() == pytest.approx(float(error / unit), rel=1e-5)


@pytest.mark.parametrize("own_loss", [False, True])
def test_a_zero_field_does_not_end_a_training(module, samples, tmp_path, own_loss):
    class Absolute(SurrogateModule):
        def loss(self, prediction, data):
            return (prediction - data.y).square().mean()

    training = module(epochs=1)
    if own_loss:
        training.__class__ = Absolute
    split = with_zero(samples, 3)
    data = SurrogateDataModule(split, val=with_zero(samples, 1), batch_size=2)
    with pytest.warns(UserWarning) as caught:
        surrogate = fit(training, data, tmp_path, accelerator="cpu", progress=False)
    flagged = [str(w.message) for w in caught if "'field'" in str(w.message)]
    # Once for each split, with the number in the split.
    assert sorted(int(text.split("sample ")[1].split(":")[0]) for text in flagged) == [
        1,
        3,
    ]
    prediction = surrogate.predict(split[0])
    assert prediction.isfinite().all()


def test_baselines_list_the_samples_of_absolute_error(module, samples):
    surrogate, test = module().surrogate, with_zero(samples, 2)
    with pytest.warns(UserWarning, match=r"'field'.* 2\b"):
        compared = compare_with_baselines(surrogate, samples(3, 1), test)
    assert compared.absolute == {"field": [2]}
    error = compared.predictions[2].square().mean().sqrt() / SCALE
    assert compared.relative_l2[2].item() == pytest.approx(error.item(), rel=1e-5)
    assert compared.absolute_errors() == {
        "field": {
            "number": 1,
            "samples": [2],
            "mean_absolute_error": pytest.approx(error.item(), rel=1e-5),
            "scale": [SCALE],
        }
    }
    assert (
        compare_with_baselines(
            surrogate, samples(3, 1), samples(2, 0)
        ).absolute_errors()
        == {}
    )


@pytest.mark.parametrize("gap", [math.nan, math.inf])
def test_points_without_a_truth_are_left_out_and_counted(module, samples, gap):
    surrogate, split = module().surrogate, samples(4, 3)
    whole = evaluate(surrogate, split, 2)
    split[2].y[[1, 5, 6]] = gap
    known = split[2].y.isfinite().squeeze(1)
    with pytest.warns(UserWarning, match=r"'field' has 3 .*\b2\b"):
        (errors,) = evaluate_per_field(surrogate, split, 2).values()
    y, prediction = split[2].y[known], surrogate.predict(split[2])[known]
    expected = torch.linalg.norm(prediction - y) / torch.linalg.norm(y)
    assert errors[2].item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.equal(errors[[0, 1]], whole[[0, 1]])
    split[3].y[:] = gap
    with pytest.warns(UserWarning):
        assert evaluate(surrogate, split, 4).isnan().tolist() == [False] * 3 + [True]
