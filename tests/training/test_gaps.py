"""Values that are not finite, in each array of training, validation and test."""

import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_flare.datasets import MeanSample, NearestSample
from torch_geometric_flare.fields import Field
from torch_geometric_flare.nn import FLARE
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.training import (
    SurrogateDataModule,
    SurrogateModule,
    compare_with_baselines,
    evaluate,
    fit,
    read_history,
)
from torch_geometric_flare.transforms import Normalizer

FIELDS = (Field("pressure", 1), Field("velocity", 2))


def samples(number, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        Data(
            pos=torch.rand(20 + index, 3, generator=generator),
            s=torch.rand(20 + index, 1, generator=generator),
            y=0.5 + torch.rand(20 + index, 3, generator=generator),
            u=torch.rand(1, 1, generator=generator),
        )
        for index in range(number)
    ]


def make(**options):
    torch.manual_seed(0)
    network = FLARE(4, 8, 3, 1, 2, num_latents=4, condition_channels=1)
    return SurrogateModule(
        network,
        Normalizer([1.0] * 3, [0.5] * 3),
        Normalizer.from_bounds([0.0] * 3, [1.0] * 3),
        Recipe(model_class=FLARE, epochs=1, batch_size=1),
        fields=FIELDS,
        features=(Field("s", 1),),
        conditions=(Field("speed", 1),),
        **options,
    )


def train(training, validation, folder, **options):
    data = SurrogateDataModule(training, validation, batch_size=1)
    module = make(**options)
    fit(module, data, folder, accelerator="cpu", progress=False)
    return module, read_history(folder)["val_loss"][-1]


@pytest.mark.parametrize("name", ["pos", "s", "y", "u"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_training_names_sample_array_and_number(tmp_path, name, value):
    broken = samples(3)
    broken[2][name][-1, -1] = value
    total = broken[2][name].numel()
    with pytest.raises(
        RuntimeError, match=rf"{name} .* 1 of {total}, .* sample 2 of train"
    ):
        train(broken, samples(2, 1), tmp_path)


@pytest.mark.parametrize("name", ["pos", "s", "u"])
def test_validation_and_evaluation_name_an_input(tmp_path, name):
    broken = samples(3, 1)
    broken[1][name][0, 0] = torch.nan
    with pytest.raises(RuntimeError, match=f"{name} .* 1 of .* sample 1 of val"):
        train(samples(3), broken, tmp_path)
    surrogate = make().surrogate
    with pytest.raises(ValueError, match=f"^sample 1: {name} .* 1 of"):
        evaluate(surrogate, broken)
    with pytest.raises(ValueError, match=f"^{name} .* 1 of"):
        surrogate.predict(broken[1])


@pytest.mark.parametrize("value", [torch.nan, -1.0])
def test_weights_that_are_none_name_the_sample(tmp_path, value):
    def weigh(split, broken=None):
        for data in split:
            data.weight = torch.ones(data.num_nodes)
        if broken is not None:
            split[broken].weight[4] = value
        return split

    with pytest.raises(ValueError, match=f"sample 2 of train: weight holds {value}"):
        train(weigh(samples(3), 2), None, tmp_path / "train", weighted=True)
    held_out = weigh(samples(3, 1), 1)
    with pytest.raises(ValueError, match=f"sample 1 of val: weight holds {value}"):
        train(weigh(samples(3)), held_out, tmp_path / "val", weighted=True)
    surrogate = make(weighted=True).surrogate
    with pytest.raises(ValueError, match=f"^sample 1: weight holds {value}"):
        evaluate(surrogate, held_out)
    with pytest.raises(ValueError, match="^sample 1 of test: weight"):
        compare_with_baselines(surrogate, samples(3), held_out)
    with pytest.raises(ValueError, match="^sample 1: weight"):
        surrogate.calibrate(held_out, 0.7)
    with pytest.raises(ValueError, match="^sample 1 of train: weight"):
        surrogate.fit_guard(held_out)


@pytest.mark.parametrize("columns", [slice(0, 1), slice(1, 3), slice(0, 3)])
@pytest.mark.parametrize("rows", [slice(4, 5), slice(None)])
def test_validation_leaves_out_a_truth_that_is_not_finite(tmp_path, rows, columns):
    held_out = samples(3, 1)
    held_out[1].y[rows, columns] = torch.nan
    with pytest.warns(UserWarning, match="y has .* sample 1 of val"):
        module, loss = train(samples(3), held_out, tmp_path)
    with pytest.warns(UserWarning, match="not finite in sample 1"):
        errors = evaluate(module.surrogate, held_out)
    known = errors[~errors.isnan()]
    assert len(known) == (3 if rows.start == 4 else 2)
    assert loss == pytest.approx(known.mean().item(), rel=1e-5)


@pytest.mark.filterwarnings("ignore:field .* not finite")
def test_no_truth_is_not_a_field_of_zeros_and_has_no_mean():
    test = samples(3, 1)
    whole = compare_with_baselines(make().surrogate, samples(3), test[1:])
    test[0].y[:] = torch.nan
    compared = compare_with_baselines(make().surrogate, samples(3), test)
    assert not compared.absolute
    assert compared.relative_l2.isnan().tolist() == [True, False, False]
    assert compared.mean_errors() == pytest.approx(whole.mean_errors())


def test_a_prediction_that_is_not_finite_has_no_finite_mean():
    surrogate = make().surrogate
    with torch.no_grad():
        next(surrogate.model.parameters()).fill_(torch.nan)
    assert evaluate(surrogate, samples(2)).tolist() == [torch.inf] * 2
    compared = compare_with_baselines(surrogate, samples(3), samples(2, 1))
    assert compared.mean_errors()["relative_l2"] == torch.inf


def test_baselines_leave_out_gaps():
    x = torch.arange(4.0)[:, None]
    first = Data(x=x, pos=x, y=torch.tensor([[1.0], [2.0], [3.0], [4.0]]))
    second = Data(x=x, pos=x, y=torch.tensor([[3.0], [torch.nan], [5.0], [6.0]]))
    mean = MeanSample([first, second]).predict(first)
    assert mean.flatten().tolist() == [2.0, 2.0, 4.0, 5.0]
    other = Data(x=x[:2], pos=x[:2])
    assert MeanSample([first, second]).predict(other)[0].item() == pytest.approx(24 / 7)
    copied = NearestSample([second]).predict(first).flatten().tolist()
    assert copied[1] in (3.0, 5.0) and copied[::2] == [3.0, 5.0]


def test_a_normalizer_names_the_tensor():
    tensors = [torch.rand(3, 2), torch.tensor([[1.0, 2.0], [3.0, torch.inf]])]
    with pytest.raises(ValueError, match="tensor 1 .* 1 of 4, the first at point 1"):
        Normalizer.gaussian(tensors)
