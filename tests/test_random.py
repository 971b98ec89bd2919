"""Whatever the package seeds or draws, the caller's random numbers stay as they are."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_flare import FLARE, from_reference
from torch_geometric_flare._random import keep_random_state
from torch_geometric_flare.fields import Field
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.surrogates import load_surrogate, save_surrogate
from torch_geometric_flare.training import (
    SurrogateDataModule,
    SurrogateModule,
    TrainerConfig,
    build_trainer,
    compare_with_baselines,
    evaluate,
    evaluate_rollout,
    fit,
    quiet_lightning,
)
from torch_geometric_flare.transforms import Normalizer

RECIPE = Recipe(
    model_class=FLARE,
    model={"hidden_channels": 16, "num_layers": 1, "heads": 2, "num_latents": 4},
    epochs=2,
    batch_size=2,
)


def draw():
    return torch.rand(3).tolist(), np.random.uniform(size=3).tolist(), random.random()


def seed(value=5):
    torch.manual_seed(value)
    np.random.seed(value)
    random.seed(value)


def samples(channels=1):
    generator = torch.Generator().manual_seed(0)
    return [
        Data(
            x=torch.rand(20, 3, generator=generator),
            y=torch.rand(20, channels, generator=generator),
        )
        for _ in range(4)
    ]


def new_module():
    normalizer = Normalizer.gaussian(sample.y for sample in samples())
    return SurrogateModule(RECIPE.build(3, 1), normalizer, recipe=RECIPE)


def new_data(**arguments):
    return SurrogateDataModule(samples(), batch_size=2, **arguments)


class Failing:
    def __call__(self, data):
        raise ZeroDivisionError

    def __repr__(self):
        return "Failing()"


def failing_fit(folder):
    with pytest.raises(ZeroDivisionError):
        fit(new_module(), new_data(train_transform=Failing()), folder, progress=False)


def own_trainer(folder):
    module, data = new_module(), new_data()
    with quiet_lightning():
        build_trainer(module, data, folder, TrainerConfig(progress=False)).fit(
            module, data
        )


def failing_trainer(folder):
    module, data = new_module(), new_data(train_transform=Failing())
    with quiet_lightning(), pytest.raises(ZeroDivisionError):
        build_trainer(module, data, folder, TrainerConfig(progress=False)).fit(
            module, data
        )


def load(folder):
    folder.mkdir()
    save_surrogate(new_module().surrogate, folder / "saved.ckpt")
    load_surrogate(folder / "saved.ckpt")


def rollout_errors(folder):
    feature = Field("state")
    surrogate = SurrogateModule(
        RECIPE.build(4, 1),
        Normalizer.identity(1),
        Normalizer.identity(3),
        recipe=RECIPE,
        features=[feature],
        fields=[Field("change")],
    ).surrogate
    sample = Data(pos=torch.ones(5, 3), state=torch.ones(5, 1), y=torch.ones(5, 2))
    evaluate_rollout(surrogate, [sample], {"state": "change"})


CALLS = {
    "fit": lambda folder: fit(new_module(), new_data(), folder, progress=False),
    "fit that fails": failing_fit,
    "own trainer": own_trainer,
    "own trainer that fails": failing_trainer,
    "load_surrogate": load,
    "evaluate": lambda folder: evaluate(new_module().surrogate, samples()),
    "evaluate_rollout": rollout_errors,
    "compare": lambda folder: compare_with_baselines(
        new_module().surrogate, samples(), samples()
    ),
    "predict": lambda folder: new_module().surrogate.predict(samples()[0]),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_draw_the_initial_weights_and_nothing_else(name, tmp_path):
    seed()
    if name == "evaluate_rollout":
        RECIPE.build(4, 1)
    else:
        new_module()
    expected = draw()
    seed()
    CALLS[name](tmp_path / "run")
    assert draw() == expected


def test_an_ensemble_has_different_members(tmp_path):
    seed()
    drawn, predictions = [], []
    for member in range(4):
        drawn.append(np.random.uniform())
        surrogate = fit(
            new_module(), new_data(), tmp_path / str(member), progress=False
        )
        predictions.append(surrogate.predict(samples()[0]))
    assert len(set(drawn)) == 4
    for i in range(4):
        for j in range(i):
            assert not torch.equal(predictions[i], predictions[j])


def test_the_same_seed_gives_the_same_network(tmp_path):
    weights = []
    for member in range(2):
        seed()
        surrogate = fit(
            new_module(), new_data(), tmp_path / str(member), progress=False
        )
        weights.append(surrogate.state_dict())
        torch.rand(member)
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name])


def test_reference_checkpoints_draw_nothing():
    with np.load(Path(__file__).parent / "data" / "lno.npz") as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files}
    state = {k.removeprefix("state/"): v for k, v in arrays.items() if "state/" in k}
    seed()
    expected = draw()
    seed()
    from_reference("lno", state, heads=2)
    assert draw() == expected


def test_state_is_restored_after_an_error():
    seed()
    expected = draw()
    seed()
    with pytest.raises(ZeroDivisionError), keep_random_state():
        seed(9)
        raise ZeroDivisionError
    assert draw() == expected
