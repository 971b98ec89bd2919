"""What users of Lightning expect of its modules."""

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.tuner import Tuner

from torch_geometric_flare.nn import FLARE
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.training import (
    SurrogateDataModule,
    SurrogateModule,
    fit,
)
from torch_geometric_flare.transforms import Normalizer

SIZES = {"hidden_channels": 8, "num_layers": 1, "heads": 2, "num_latents": 4}
QUIET = {"accelerator": "cpu", "progress": False}


@pytest.fixture
def flare():
    torch.manual_seed(0)
    recipe = Recipe(model_class=FLARE, model=SIZES, epochs=2, batch_size=2)
    return SurrogateModule(
        recipe.build(in_channels=3, out_channels=1),
        Normalizer([20.0], [7.0]),
        Normalizer.from_bounds([0.0] * 3, [4.0] * 3),
        recipe,
    )


@pytest.fixture
def data(samples):
    return SurrogateDataModule(samples(6, 0), samples(2, 1), samples(3, 2), 2)


def trainer(tmp_path, **arguments):
    return Trainer(
        accelerator="cpu",
        max_epochs=20,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        **arguments,
    )


@pytest.mark.filterwarnings("ignore")  # of Lightning, about workers and few batches
def test_the_learning_rate_finder(flare, data, tmp_path):
    before = flare.surrogate.model.head.layers[0].weight.clone()
    finder = Tuner(trainer(tmp_path)).lr_find(flare, datamodule=data, num_training=30)
    assert len(finder.results["lr"]) > 10
    assert flare.learning_rate == flare.recipe.learning_rate == finder.suggestion()
    assert torch.equal(flare.surrogate.model.head.layers[0].weight, before)


@pytest.mark.filterwarnings("ignore")
def test_the_batch_size_finder(flare, data, tmp_path):
    found = Tuner(trainer(tmp_path)).scale_batch_size(
        flare, datamodule=data, max_trials=2, init_val=1, steps_per_trial=1
    )
    assert found == data.batch_size
    assert data.num_batches == -(-6 // found)


@pytest.mark.filterwarnings("ignore")
def test_predict_takes_the_test_split(flare, data, tmp_path):
    batches = trainer(tmp_path).predict(flare, datamodule=data)
    found = torch.cat(batches)
    expected = torch.cat([flare.surrogate.predict(sample) for sample in data.test])
    torch.testing.assert_close(found, expected)


def test_loads_weights_normalisers_and_recipe(flare, data, tmp_path):
    flare.surrogate.weighted = True
    surrogate = fit(flare, data, tmp_path, **QUIET)
    loaded = SurrogateModule.load_from_checkpoint(tmp_path / "last.ckpt")
    assert loaded.recipe == flare.recipe and loaded.surrogate.weighted
    sample = data.test[0]
    assert torch.equal(loaded.surrogate.predict(sample), surrogate.predict(sample))
    with pytest.raises(FileNotFoundError, match="nothing.ckpt"):
        SurrogateModule.load_from_checkpoint(tmp_path / "nothing.ckpt")


def test_the_recipe_is_logged_to_all_loggers(flare, data, tmp_path):
    mine, yours = (CSVLogger(tmp_path, name=name) for name in ("mine", "yours"))
    fit(flare, data, tmp_path / "run", logger=[mine, yours], **QUIET)
    for folder in ("run/metrics", "mine", "yours"):
        (version,) = (tmp_path / folder).iterdir()
        logged = yaml.safe_load((version / "hparams.yaml").read_text())
        assert logged["learning_rate"] == flare.recipe.learning_rate
        assert logged["model"] == SIZES
        assert "val_loss" in (version / "metrics.csv").read_text().splitlines()[0]


@pytest.mark.parametrize("logger", ["tensorboard", ["paper"], 3])
def test_a_logger_that_is_none(flare, data, tmp_path, logger):
    with pytest.raises(TypeError, match="logger is"):
        fit(flare, data, tmp_path, logger=logger)
