"""Lightning: its trainer, tuner, loggers and callbacks."""

import csv

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import (
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from lightning.pytorch.loggers import (
    CSVLogger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
)
from lightning.pytorch.tuner import Tuner
from torch_geometric.data import Data

from torch_geometric_flare import FLARE
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.surrogates import load_surrogate
from torch_geometric_flare.training import SurrogateDataModule, SurrogateModule, fit
from torch_geometric_flare.transforms import Normalizer

from .rows import row

SIZES = {"hidden_channels": 8, "num_layers": 1, "heads": 2, "num_latents": 4}
QUIET = {"accelerator": "cpu", "progress": False}

# Lightning warns of few workers and few batches, and uses names that torch deprecates.
pytestmark = pytest.mark.filterwarnings("ignore")


def make_samples(number):
    clouds = [torch.rand(20 + i, 3) for i in range(number)]
    return [Data(x=x, y=x.sum(1, keepdim=True)) for x in clouds]


@pytest.fixture
def module():
    torch.manual_seed(0)
    recipe = Recipe(model_class=FLARE, model=SIZES, epochs=3, batch_size=2)
    return SurrogateModule(
        recipe.build(in_channels=3, out_channels=1),
        Normalizer([1.5], [0.5]),
        None,
        recipe,
    )


@pytest.fixture
def data():
    return SurrogateDataModule(make_samples(6), make_samples(2), make_samples(3), 2)


def trainer(folder, *callbacks, epochs=3, **options):
    return Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=options.pop("logger", False),
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        default_root_dir=folder,
        callbacks=list(callbacks),
        **options,
    )


@row("Trainer")
def test_trainer(module, data, tmp_path):
    runner = trainer(tmp_path)
    runner.fit(module, datamodule=data)
    assert runner.global_step == 9
    assert {"train_loss", "val_loss"} <= set(runner.callback_metrics)
    (validated,) = runner.validate(module, datamodule=data, verbose=False)
    assert validated["val_loss"] > 0
    (tested,) = runner.test(module, datamodule=data, verbose=False)
    assert tested["test_loss"] > 0
    predicted = torch.cat(runner.predict(module, datamodule=data))
    expected = [module.surrogate.predict(sample) for sample in data.test]
    torch.testing.assert_close(predicted, torch.cat(expected))


@row("Trainer(precision=...)")
def test_precision(module, data, tmp_path):
    runner = trainer(tmp_path, precision="bf16-mixed")
    runner.fit(module, datamodule=data)
    assert torch.isfinite(runner.callback_metrics["val_loss"])


@row("Tuner.lr_find")
def test_learning_rate_finder(module, data, tmp_path):
    finder = Tuner(trainer(tmp_path, epochs=20)).lr_find(
        module, datamodule=data, num_training=30
    )
    assert module.recipe.learning_rate == finder.suggestion() != 1e-3


@row("Tuner.scale_batch_size")
def test_batch_size_finder(module, data, tmp_path):
    found = Tuner(trainer(tmp_path, epochs=20)).scale_batch_size(
        module, datamodule=data, max_trials=2, init_val=1, steps_per_trial=1
    )
    assert data.batch_size == found and data.num_batches == -(-6 // found)


@row("CSVLogger")
def test_csv(module, data, tmp_path):
    fit(module, data, tmp_path, **QUIET)
    (path,) = (tmp_path / "metrics").glob("*/metrics.csv")
    rows = list(csv.DictReader(path.open()))
    assert {"epoch", "train_loss", "val_loss"} <= set(rows[0])
    assert "learning_rate" in (path.parent / "hparams.yaml").read_text()
    other = CSVLogger(tmp_path, name="other")
    runner = trainer(tmp_path, logger=other)
    runner.fit(module, datamodule=data)
    assert (tmp_path / "other/version_0/metrics.csv").exists()


@row("TensorBoardLogger")
def test_tensorboard(module, data, tmp_path):
    pytest.importorskip("tensorboardX", reason="needs tensorboardX")
    fit(module, data, tmp_path / "run", logger=TensorBoardLogger(tmp_path), **QUIET)
    (path,) = tmp_path.rglob("events.out.tfevents.*")
    assert b"val_loss" in path.read_bytes()


@row("WandbLogger")
def test_wandb(module, data, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="needs wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(save_dir=tmp_path)
    fit(module, data, tmp_path / "run", logger=logger, **QUIET)
    assert "val_loss" in dict(wandb.run.summary)
    assert wandb.run.config["learning_rate"] == module.recipe.learning_rate
    wandb.finish()
    assert list(tmp_path.rglob("*.wandb"))


@row("MLFlowLogger")
def test_mlflow(module, data, tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="needs mlflow")
    # The package mlflow_skinny has no database.
    store = "mlflow.store.tracking.sqlalchemy_store"
    pytest.importorskip(store, exc_type=ImportError)
    server = f"sqlite:///{tmp_path / 'mlflow.db'}"
    artifacts = (tmp_path / "run" / "mlruns").as_uri()
    logger = MLFlowLogger(tracking_uri=server, artifact_location=artifacts)
    fit(module, data, tmp_path / "run", logger=logger, **QUIET)
    client = mlflow.MlflowClient(server)
    (experiment,) = client.search_experiments(filter_string="name = 'lightning_logs'")
    (run,) = client.search_runs(experiment.experiment_id)
    assert run.data.metrics["val_loss"] > 0
    assert float(run.data.params["learning_rate"]) == module.recipe.learning_rate
    assert experiment.artifact_location == artifacts


@row("EarlyStopping")
def test_early_stopping(module, data, tmp_path):
    stop = EarlyStopping("val_loss", patience=1, min_delta=1e9)
    runner = trainer(tmp_path, stop)
    runner.fit(module, datamodule=data)
    assert runner.current_epoch == 2
    fit(module, data, tmp_path / "run", patience=1, **QUIET)


@row("ModelCheckpoint")
def test_model_checkpoint(module, data, tmp_path):
    keep = ModelCheckpoint(
        tmp_path, "{epoch}", monitor="val_loss", save_top_k=-1, save_last=True
    )
    trainer(tmp_path, keep).fit(module, datamodule=data)
    sample = data.test[0]
    last = load_surrogate(tmp_path / "last.ckpt")
    assert torch.equal(last.predict(sample), module.surrogate.predict(sample))
    best = load_surrogate(keep.best_model_path)
    errors = [s.predict(sample) for s in (best, last)]
    assert torch.isfinite(torch.stack(errors)).all()
    fit(module, data, tmp_path / "run", keep_best=True, **QUIET)
    assert {"best.ckpt", "last.ckpt"} <= {p.name for p in (tmp_path / "run").iterdir()}


@row("load_from_checkpoint")
def test_load_from_checkpoint(module, data, tmp_path):
    surrogate = fit(module, data, tmp_path, **QUIET)
    loaded = SurrogateModule.load_from_checkpoint(tmp_path / "last.ckpt")
    assert loaded.recipe == module.recipe
    sample = data.test[0]
    assert torch.equal(loaded.surrogate.predict(sample), surrogate.predict(sample))
    trainer(tmp_path).fit(loaded, datamodule=data)


@row("LearningRateMonitor, StochasticWeightAveraging")
def test_other_callbacks(module, data, tmp_path):
    logger = CSVLogger(tmp_path, name="mine")
    callbacks = LearningRateMonitor(), StochasticWeightAveraging(1e-3, 1)
    runner = trainer(tmp_path, *callbacks, logger=logger)
    runner.fit(module, datamodule=data)
    text = (tmp_path / "mine/version_0/metrics.csv").read_text()
    assert "lr-AdamW" in text.splitlines()[0]
