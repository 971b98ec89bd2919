"""Train a model on a benchmark, evaluate it and plot a sample."""

import json
import logging
import math
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.loggers import (
    Logger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
)

from torch_geometric_flare import training
from torch_geometric_flare._arguments import as_path
from torch_geometric_flare._random import keep_random_state
from torch_geometric_flare.experiments.build import (
    choose_recipe,
    make_data,
    make_module,
)
from torch_geometric_flare.experiments.config import CONFIG, RunConfig, write_config
from torch_geometric_flare.experiments.output import plot_history, plot_sample
from torch_geometric_flare.experiments.published import Published
from torch_geometric_flare.experiments.quantities import extra_metrics
from torch_geometric_flare.experiments.splits import Selection, Splits
from torch_geometric_flare.experiments.timing import (
    StepTimer,
    TimeEstimate,
    points_per_second,
    steps_within,
)
from torch_geometric_flare.nn.pooled_states import why_no_states
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.surrogates import Surrogate, unwrap
from torch_geometric_flare.surrogates.checkpoint import add_trust
from torch_geometric_flare.surrogates.guard import FEWEST
from torch_geometric_flare.training.run_folder import is_first_process

log = logging.getLogger(__name__)

# Validations per training. They evaluate all points of a sample, so more are slow.
_VALIDATIONS = 10
# Options that may differ from the run of a published result.
_COMPARABLE = (
    "model",
    "device",
    "precision",
    "seed",
    "threads",
    "logger",
    "folder",
    "progress",
)
_CALIBRATION = 9  # minimum number of samples for 90 % bands


@keep_random_state()
def run_benchmark(config: RunConfig, *, resume: bool = False) -> dict[str, Any]:
    """Train a model on a benchmark, compare it with two baselines, and plot a sample.

    The folder gets `config.yaml`, the files of `training.fit`, `metrics.json`, a
    picture of the test sample of median error, `loss.png`, and `prediction.vtp` with
    the fields on that sample's surface, or on its points if the surface is unknown.

    The caller's random states do not change.

    Args:
        config: The run.
        resume: Resume from the checkpoint in the folder of `config`, if there is one.

    Returns:
        The content of `metrics.json`.

    Raises:
        ValueError: If the benchmark has no such recipe, data or fields.
        OSError: If files are missing.
    """
    start = time.perf_counter()
    training.set_threads(config.threads)
    benchmark, selection = config.benchmark, config.selection
    chosen = choose_recipe(config)
    folder = Path(str(with_folder(config).folder))
    if not (folder / "last.ckpt").exists() and not (
        resume and (folder / CONFIG).exists()
    ):
        write_config(config, folder)
    torch.manual_seed(config.seed)
    splits = benchmark.load(selection)
    train, test = splits.train, splits.test
    what = f"{selection.data} {benchmark.sample}s"
    module = make_module(splits, chosen, what)
    network = module.surrogate.model
    counts = [f"{len(train)} {what} to train on", f"{len(test)} to test on"]
    if splits.val is not None:
        counts.insert(1, f"{len(splits.val)} to validate on")
    log.info("%s; %s", ", ".join(counts), network)
    data = make_data(splits, module.recipe, config.seed)
    trainer = training.TrainerConfig(
        accelerator=config.device, **config.values_of(training.TrainerConfig)
    )
    recipe = module.recipe = _fit_budget(config, trainer, module, data, folder)
    trainer = replace(
        trainer,
        validate_every=max(1, recipe.epochs // _VALIDATIONS),
        logger=_make_logger(config.logger, folder),
    )
    timer = StepTimer()
    estimates = [TimeEstimate()] if config.progress else []

    def note(*_: object) -> None:
        write_config(config, folder)

    # A resumed run with other options is refused before they are written.
    noted = LambdaCallback(on_train_start=note, on_fit_end=note)
    surrogate = training.fit(
        module,
        data,
        folder,
        trainer,
        resume=resume,
        callbacks=[timer, *estimates, noted],
    )

    _measure_trust(config, splits, surrogate, folder)
    compared = training.compare_with_baselines(surrogate, train, test)
    errors, absolute = compared.relative_l2, compared.absolute_errors()
    worst = int(errors.nan_to_num(-1.0, posinf=math.inf).argmax())  # NaN: no truth
    results = {
        "data": selection.data,
        "optimizer": recipe.optimizer,
        "init": getattr(network, "init", None),
        **compared.mean_errors(),
        **({"absolute_errors": absolute} if absolute else {}),
        "worst_sample": worst,
        "relative_l2_of_worst_sample": errors[worst].item(),
        **extra_metrics(benchmark, train, test, compared.predictions, splits.fields),
        "num_train": len(train),
        "num_val": selection.num_val,
        "num_test": len(test),
        "num_points": test[0].num_nodes,
        "epochs": recipe.epochs,
        "steps": timer.steps,
        # A complex parameter counts as two numbers.
        "parameters": sum(p.numel() << p.is_complex() for p in network.parameters()),
        "training_seconds": timer.seconds,
        "seconds_per_step": timer.seconds_per_step,
        "peak_memory_mib": timer.peak_memory and timer.peak_memory / 2**20,
        "points_per_second": points_per_second(surrogate, test, timer.device),
        "seconds": round(time.perf_counter() - start, 1),
    }
    (folder / "metrics.json").write_text(json.dumps(results, indent=2) + "\n")
    # Plot the sample of median error as representative.
    middle = int(errors.argsort()[int((~errors.isnan()).sum()) // 2])
    mesh = benchmark.surface(selection, middle)
    if mesh is not None:
        mesh = surrogate.predict_mesh(mesh, location="cell")
    plot_sample(
        folder,
        benchmark,
        test[middle],
        compared.predictions[middle],
        splits.fields,
        f"{selection.data} {benchmark.sample}",
        mesh,
    )
    plot_history(folder, what, splits.fields)
    return results


def with_folder(config: RunConfig, prefix: str = "") -> RunConfig:
    """Return a run with the absolute path of its folder, by default new in `runs`.

    Args:
        config: The run.
        prefix: Start of the new folder's name, before problem, data and time.
    """
    name = f"{prefix}{config.benchmark.name}-{config.selection.data}"
    folder = config.folder or training.run_folder(Path("runs", name))
    return replace(config, folder=str(as_path(folder)))


def published_figures(
    config: RunConfig, results: Mapping[str, Any]
) -> tuple[Published, ...]:
    """Return the published results that a run can be compared with.

    These are results on the complete official data with the paper's recipe, so that
    nothing simulated, shortened or incomplete is ever compared with them.

    Args:
        config: The run.
        results: Output of `run_benchmark`, for its `num_train` and `num_test`.
    """
    benchmark = config.benchmark
    published_run = RunConfig(
        problem=config.problem,
        recipe="paper",
        selection=Selection(data="official", root=config.selection.root),
        **{name: getattr(config, name) for name in _COMPARABLE},
    )
    sizes = benchmark.published_sizes
    complete = not sizes or all(
        results[f"num_{split}"] == sizes[split] for split in ("train", "test")
    )
    return benchmark.published if complete and config == published_run else ()


def _measure_trust(
    config: RunConfig, splits: Splits, surrogate: Surrogate, folder: Path
) -> None:
    """Add a guard and bands from held-out samples to the surrogate and its checkpoint.

    Validation samples that selected the weights do not count as held out.
    """
    choosing = config.keep_best or config.patience is not None
    held_out = None if choosing else splits.val
    if len(splits.train) >= FEWEST and not why_no_states(unwrap(surrogate.model)):
        surrogate.fit_guard(splits.train, held_out)
    if held_out is not None and len(held_out) >= _CALIBRATION:
        quantities = config.benchmark.quantities_of_interest
        surrogate.calibrate(held_out, quantities=quantities)
    measured = surrogate.guard is not None or surrogate.calibration is not None
    if measured and is_first_process():
        name = "best.ckpt" if config.keep_best else "last.ckpt"
        add_trust(folder / name, surrogate)


def _fit_budget(
    config: RunConfig,
    trainer: training.TrainerConfig,
    module: training.SurrogateModule,
    data: training.SurrogateDataModule,
    folder: Path,
) -> Recipe:
    """Return the module's recipe with the number of steps of the run."""
    steps = config.steps
    if config.seconds is not None:
        steps = steps_within(config.seconds, trainer, module, data, folder)
    if steps is None:
        return module.recipe
    epochs = -(-steps // data.num_batches)
    return replace(module.recipe, epochs=epochs, max_steps=steps)


def _make_logger(name: str | None, folder: Path) -> Logger | None:
    """Return a Lightning logger that writes to the folder of the run.

    MLflow logs to the server in `MLFLOW_TRACKING_URI`, if it is set.
    """
    try:
        if name == "tensorboard":
            return TensorBoardLogger(folder, name=name)
        if name == "wandb":
            return WandbLogger(name=folder.name, save_dir=folder)
        if name == "mlflow":
            server = os.environ.get("MLFLOW_TRACKING_URI")
            place = folder.resolve()
            return MLFlowLogger(
                tracking_uri=server or f"sqlite:///{place / 'mlflow.db'}",
                artifact_location=None if server else (place / "mlruns").as_uri(),
                run_name=folder.name,
            )
    except ModuleNotFoundError as error:
        raise ValueError(
            f"logger is {name!r}, which needs a package that is not installed: pip "
            f"install {name}"
        ) from error
    return None
