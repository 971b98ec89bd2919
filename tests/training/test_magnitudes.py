"""Targets of any magnitude are learned alike."""

import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_flare import FLARE
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.training import (
    SurrogateDataModule,
    SurrogateModule,
    evaluate,
    fit,
)
from torch_geometric_flare.transforms import Normalizer

RECIPE = Recipe(
    model_class=FLARE,
    model={"hidden_channels": 16, "num_layers": 1, "heads": 2, "num_latents": 4},
    epochs=20,
    batch_size=2,
    learning_rate=1e-2,
)


def error_after_training(unit, folder):
    generator = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(4):
        x = torch.rand(30, 3, generator=generator)
        samples.append(Data(x=x, y=(x[:, :1] - 0.5) * unit))
    torch.manual_seed(0)
    normalizer = Normalizer.gaussian(sample.y for sample in samples)
    module = SurrogateModule(RECIPE.build(3, 1), normalizer, recipe=RECIPE)
    data = SurrogateDataModule(samples, batch_size=2)
    surrogate = fit(module, data, folder, progress=False)
    return evaluate(surrogate, samples).mean().item()


@pytest.mark.parametrize("unit", [1e-30, 1e-9, 1e30])
def test_the_unit_does_not_change_the_error(unit, tmp_path):
    expected = error_after_training(1.0, tmp_path / "one")
    found = error_after_training(unit, tmp_path / "other")
    assert expected < 0.5
    assert found == pytest.approx(expected, rel=0.02)
