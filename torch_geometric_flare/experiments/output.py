"""Pictures and files of a run."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare.experiments.benchmark import Benchmark
from torch_geometric_flare.fields import Fields, channel_slices
from torch_geometric_flare.mesh_io import add_notes, save_dataset, write_points
from torch_geometric_flare.metrics import relative_l2
from torch_geometric_flare.training import read_history
from torch_geometric_flare.visualization import plot_training_curves


def plot_sample(
    folder: Path,
    benchmark: Benchmark,
    data: Data,
    prediction: Tensor,
    fields: Fields,
    what: str,
    mesh: Any = None,
) -> None:
    """Save a picture of each field, and all fields in a file for ParaView.

    With one field, the picture is `<picture>.png` and the arrays of `prediction.vtp`
    are `truth`, `prediction` and `error`; with several, all names include that of the
    field. If a mesh is given, picture and file have it instead of the points, and its
    arrays keep their names. Titles state the error of the data in the picture, without
    places where the truth is not finite.

    Args:
        folder: Output folder.
        benchmark: The benchmark, which defines the plots.
        data: A sample.
        prediction: Its predicted fields, $[N, C]$.
        fields: Fields of the columns.
        what: Description of the sample for the titles, such as "simulated car".
        mesh: Mesh of the sample with truth, prediction and error on its cells, as
            returned by `surrogates.Surrogate.predict_mesh`.
    """
    arrays: dict[str, Tensor] = {}
    notes: dict[str, str] = {}
    for field, columns in zip(fields, channel_slices(fields).values(), strict=True):
        truth, predicted = data.y[:, columns], prediction[:, columns]
        if mesh is None:
            title = _title(what, predicted, truth, "points")
            figure = benchmark.plot(data, predicted, field, title=title, truth=truth)
        else:
            on_cells, true_on_cells = (
                torch.as_tensor(mesh.cell_data[name])
                for name in (field.name, f"{field.name}_true")
            )
            title = _title(what, on_cells, true_on_cells, "cells")
            figure = benchmark.plot_surface(mesh, field, title=title)
        single = len(fields) == 1
        suffix, prefix = ("", "") if single else (f"_{field.name}", f"{field.name}_")
        figure.savefig(folder / f"{benchmark.picture}{suffix}.png", dpi=150)
        arrays |= {
            f"{prefix}truth": truth,
            f"{prefix}prediction": predicted,
            f"{prefix}error": predicted - truth,
        }
        notes[f"{prefix}title"] = title
        notes[f"{field.name}_unit"] = field.unit
    target = folder / "prediction.vtp"
    if mesh is None:
        write_points(target, data.pos, arrays, notes=notes)
    else:
        add_notes(mesh, notes)
        save_dataset(mesh, target)


def _title(what: str, predicted: Tensor, true: Tensor, places: str) -> str:
    finite = true.view(len(true), -1).isfinite().all(1)
    predicted, true = predicted[finite], true[finite]
    if not true.any():  # the relative error is undefined
        size = float(predicted.square().mean().sqrt())
        return f"{what}, zero everywhere, error {size:.3g} on {len(true):,} {places}"
    error = float(relative_l2(predicted, true))
    return f"{what}, relative L2 error {error:.1%} on {len(true):,} {places}"


def plot_history(folder: Path, title: str, fields: Fields) -> None:
    """Save `loss.png`, the training and validation errors over the epochs.

    An error is plotted at the number of epochs completed when it was logged. Training
    errors are means over the steps of an epoch; validation errors are measured after
    it, with averaged weights if the recipe averages them, and so may be lower.

    Args:
        folder: The folder of the training.
        title: Title; should state whether the data are simulated.
        fields: The fields; if there are several, each has its own curve besides the
            mean.
    """
    history = read_history(folder)
    curves = {
        stage: _curve(history, f"{name}_relative_l2")
        for stage, name in (
            ("training, mean over the epoch", "train"),
            ("validation, after the epoch", "val"),
        )
        if f"{name}_relative_l2" in history
    }
    if len(fields) > 1:
        curves |= {
            field.name: _curve(history, f"train_relative_l2_{field.name}")
            for field in fields
        }
    figure = plot_training_curves(curves, title=title, xlabel="epoch")
    figure.savefig(folder / "loss.png", dpi=150)


def _curve(
    history: dict[str, list[float]], name: str
) -> tuple[list[float], list[float]]:
    """Return the completed epochs when a quantity was logged, and its values."""
    measured = [
        (epoch + 1, value)  # the log counts from 0
        for epoch, value in zip(history["epoch"], history[name], strict=True)
        if not math.isnan(value)
    ]
    return [epoch for epoch, _ in measured], [value for _, value in measured]
