"""One call that trains a model on a benchmark, measures it and draws a sample."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform, Compose, FixedPoints

from torch_geometric_flare import training
from torch_geometric_flare._random import keep_random_state
from torch_geometric_flare.experiments.benchmark import (
    Benchmark,
    Selection,
    Splits,
)
from torch_geometric_flare.experiments.inputs import fit_input_normalizer
from torch_geometric_flare.experiments.output import draw_history, draw_sample
from torch_geometric_flare.experiments.published import Published
from torch_geometric_flare.experiments.quantities import further_measures
from torch_geometric_flare.experiments.step_timer import StepTimer
from torch_geometric_flare.experiments.throughput import points_per_second
from torch_geometric_flare.experiments.time_budget import steps_within
from torch_geometric_flare.experiments.time_estimate import TimeEstimate
from torch_geometric_flare.fields import num_channels
from torch_geometric_flare.recipes import Recipe, resolve_recipe

# Of all points of a sample, where training sees a few: more would take long.
_VALIDATIONS = 10


@keep_random_state()
def run_benchmark(
    benchmark: Benchmark,
    model: str,
    recipe: str,
    folder: str | Path,
    *,
    selection: Selection | None = None,
    epochs: int | None = None,
    seconds: float | None = None,
    optimizer: str | None = None,
    init: str | None = None,
    resume: bool = False,
    keep_best: bool = False,
    patience: int | None = None,
    device: str = "auto",
    precision: str = "32-true",
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Train a model on a benchmark, measure it beside two baselines, and draw a sample.

    Into the folder go what `training.fit` writes, `metrics.json`, a picture of the test
    sample of median error, `loss.png`, and `prediction.vtp` with that sample's surface
    where it is known, or its points, and the fields.

    Args:
        benchmark: The problem.
        model: Name of the model.
        recipe: Name of the recipe.
        folder: Where to write.
        selection: Which data; simulated ones by default.
        epochs: Epochs of the training instead of the recipe's.
        seconds: Time of the training instead of epochs: as many steps as this machine
            makes in it, by the time of ten steps that are made before.
        optimizer: Optimizer of the training instead of the recipe's.
        init: How the network starts instead of the recipe's way, see
            `nn.initialization`; models without that choice keep their own.
        resume: Carry on from the checkpoint in `folder`.
        keep_best: Measure the weights of the lowest validation loss, not the last.
        patience: Validations without a lower loss that end the training. There are
            about ten in a training.
        device: Where to compute, as Lightning names it.
        precision: Arithmetic of the training, as Lightning names it.
        seed: Seed of the initial weights and of the training; the random numbers of the
            caller stay as they are.
        progress: Show a progress bar, or lines where there is no terminal, and after
            the first steps how long the training takes.

    Returns:
        What `metrics.json` holds.

    Raises:
        ValueError: If the benchmark has no such recipe, data or fields, both
            `epochs` and `seconds` are given, or `keep_best` or `patience` without
            samples to validate on.
        OSError: If files are missing.
    """
    if epochs is not None and seconds is not None:
        raise ValueError(f"epochs={epochs} and seconds={seconds}: give only one")
    start = time.perf_counter()
    folder = Path(folder)
    selection = selection or Selection()
    if (keep_best or patience is not None) and not selection.num_val:
        raise ValueError(
            "keep_best and patience need samples to validate on: give --num-val (in "
            "Python, num_val of the selection)"
        )
    chosen = benchmark.recipe(model, recipe)
    if epochs is not None:
        chosen = replace(chosen, epochs=epochs)
    chosen = _override(chosen, optimizer, init)
    torch.manual_seed(seed)
    splits = benchmark.load(selection)
    chosen = resolve_recipe(chosen, splits.train[0])
    _check_grid(chosen, splits.train[0])
    what = f"{selection.data} {benchmark.sample}s"
    module = make_module(splits, chosen, what)
    network = module.surrogate.model
    train, test = splits.train, splits.test
    counts = [f"{len(train)} {what} to train on", f"{len(test)} to test on"]
    if splits.val is not None:
        counts.insert(1, f"{len(splits.val)} to validate on")
    print(f"{', '.join(counts)}; {network}")
    size = chosen.num_points
    transforms = [] if splits.train_transform is None else [splits.train_transform]
    if size is not None:
        transforms += [_PointsAlone(), FixedPoints(size, replace=False)]
    data = training.SurrogateDataModule(
        train,
        splits.val,
        batch_size=chosen.batch_size,
        train_transform=Compose(transforms) if transforms else None,
        seed=seed,
    )
    if seconds is not None:
        steps = steps_within(
            seconds, module, data, folder, accelerator=device, precision=precision
        )
        epochs_needed = -(-steps // data.num_batches)
        chosen = replace(chosen, epochs=epochs_needed, max_steps=steps)
        module.recipe = chosen
    timer = StepTimer()
    surrogate = training.fit(
        module,
        data,
        folder,
        resume=resume,
        accelerator=device,
        precision=precision,
        validate_every=max(1, chosen.epochs // _VALIDATIONS),
        keep_best=keep_best,
        patience=patience,
        progress=progress,
        callbacks=[timer, TimeEstimate()] if progress else [timer],
    )

    compared = training.compare_with_baselines(surrogate, train, test)
    errors = compared.relative_l2
    worst = int(errors.argmax())
    results = {
        "data": selection.data,
        "optimizer": chosen.optimizer,
        "init": getattr(network, "init", None),
        **compared.mean_errors(),
        "worst_sample": worst,
        "relative_l2_of_worst_sample": errors[worst].item(),
        **further_measures(benchmark, train, test, compared.predictions, splits.fields),
        "num_train": len(train),
        "num_val": selection.num_val,
        "num_test": len(test),
        "num_points": test[0].num_nodes,
        "epochs": chosen.epochs,
        "steps": timer.steps,
        # A complex parameter is two numbers.
        "parameters": sum(p.numel() << p.is_complex() for p in network.parameters()),
        "training_seconds": timer.seconds,
        "seconds_per_step": timer.seconds_per_step,
        "peak_memory_mib": timer.peak_memory and timer.peak_memory / 2**20,
        "points_per_second": points_per_second(surrogate, test, timer.device),
        "seconds": round(time.perf_counter() - start, 1),
    }
    (folder / "metrics.json").write_text(json.dumps(results, indent=2) + "\n")
    # The sample of median error stands for all.
    middle = int(errors.argsort()[len(test) // 2])
    mesh = benchmark.surface(selection, middle)
    if mesh is not None:
        mesh = surrogate.predict_mesh(mesh, location="cell")
    draw_sample(
        folder,
        benchmark,
        test[middle],
        compared.predictions[middle],
        splits.fields,
        f"{selection.data} {benchmark.sample}",
        mesh,
    )
    draw_history(folder, what, splits.fields)
    return results


def published_figures(
    benchmark: Benchmark,
    recipe: str,
    selection: Selection,
    epochs: int | None,
    results: Mapping[str, Any],
    seconds: float | None = None,
    optimizer: str | None = None,
    init: str | None = None,
) -> tuple[Published, ...]:
    """Return the published figures that a run may stand beside.

    These are figures of the whole official data with the paper's recipe, so that
    nothing simulated, shortened or incomplete ever stands beside them.

    Args:
        benchmark: The problem.
        recipe: Name of the recipe.
        selection: Which data.
        epochs: Epochs instead of the recipe's.
        results: What `run_benchmark` returned, for its `num_train` and `num_test`.
        seconds: Time of the training instead of epochs.
        optimizer: Optimizer instead of the recipe's.
        init: Start instead of the recipe's.
    """
    official = selection == Selection(data="official", root=selection.root)
    sizes = benchmark.published_sizes
    complete = not sizes or all(
        results[f"num_{split}"] == sizes[split] for split in ("train", "test")
    )
    whole = complete and epochs is None and seconds is None
    unchanged = optimizer is None and init is None
    comparable = official and recipe == "paper" and whole and unchanged
    return benchmark.published if comparable else ()


def _override(recipe: Recipe, optimizer: str | None, init: str | None) -> Recipe:
    """Return the recipe with another optimizer or start, where the model has them."""
    model = dict(recipe.model)
    if init is not None and "init" in signature(recipe.model_class).parameters:
        model["init"] = init
    return replace(recipe, model=model, optimizer=optimizer or recipe.optimizer)


class _PointsAlone(BaseTransform):
    """Drops what names points by their place, so that points may be left out."""

    def forward(self, data: Data) -> Data:
        for name in ("edge_index", "cells", "grid"):
            if name in data:
                del data[name]
        return data


def _check_grid(recipe: Recipe, sample: Data) -> None:
    """Refuse a recipe whose network is bound to another grid than the samples'."""
    bound, found = recipe.model.get("grid"), sample.get("grid")
    if isinstance(bound, tuple) and found is not None and bound != tuple(found):
        raise ValueError(
            f"this recipe of {recipe.model_class.__name__} is for samples on the grid "
            f"{bound}, but these are on {tuple(found)}: give --num-points="
            f"{math.prod(bound)}, or choose another recipe"
        )


def make_module(splits: Splits, recipe: Recipe, what: str) -> training.SurrogateModule:
    """Build the network of a recipe for some data, with its normalisers.

    Args:
        splits: The data.
        recipe: The network and its training.
        what: What it is trained on, in words, such as "simulated cars".
    """
    channels = splits.train[0].x.size(1)
    network = recipe.build(
        in_channels=channels,
        out_channels=num_channels(splits.fields),
        num_coordinates=channels - num_channels(splits.features),
    )
    return training.SurrogateModule(
        network,
        splits.target_normalizer,
        splits.coordinate_normalizer,
        recipe,
        training_data=what,
        fields=splits.fields,
        features=splits.features,
        input_normalizer=fit_input_normalizer(recipe, splits),
        location=splits.location,
    )
