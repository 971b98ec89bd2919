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
    """Write a picture of each field, and all fields to a file for ParaView.

    With one field the picture is `<picture>.png` and the arrays of `prediction.vtp` are
    `truth`, `prediction` and `error`; with several all are named by field. With a mesh,
    picture and file show that instead of the points, and its arrays keep their names.
    Titles state the error of what picture and file show.

    Args:
        folder: Where to write.
        benchmark: How to draw.
        data: A sample.
        prediction: Its predicted fields, $[N, C]$.
        fields: What the columns are.
        what: What the sample is, such as "simulated car", for the titles.
        mesh: The sample's mesh with truth, prediction and error on its cells, as
            `surrogates.Surrogate.predict_mesh` returns it.
    """
    arrays: dict[str, Tensor] = {}
    notes: dict[str, str] = {}
    for field, columns in zip(fields, channel_slices(fields).values(), strict=True):
        truth, predicted = data.y[:, columns], prediction[:, columns]
        if mesh is None:
            title = _title(what, predicted, truth, "points")
            figure = benchmark.plot(data, predicted, field, title=title, truth=truth)
        else:
            on_cells, known = (
                torch.as_tensor(mesh.cell_data[name])
                for name in (field.name, f"{field.name}_true")
            )
            title = _title(what, on_cells, known, "cells")
            figure = benchmark.plot_surface(mesh, field, title=title)
        alone = len(fields) == 1
        suffix, prefix = ("", "") if alone else (f"_{field.name}", f"{field.name}_")
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
    if not true.any():  # no relative error: the size of the prediction is the error
        size = float(predicted.square().mean().sqrt())
        return f"{what}, zero everywhere, error {size:.3g} on {len(true):,} {places}"
    error = float(relative_l2(predicted, true))
    return f"{what}, relative L2 error {error:.1%} on {len(true):,} {places}"


def plot_history(folder: Path, title: str, fields: Fields) -> None:
    """Write `loss.png`, the errors of training and validation over the epochs.

    Args:
        folder: The folder of the training.
        title: Heading; says whether the data are simulated.
        fields: With several, each has its own curve besides their mean.
    """
    history = read_history(folder)
    curves = {
        stage: _curve(history, f"{name}_relative_l2")
        for stage, name in (("training", "train"), ("validation", "val"))
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
    """Return the epochs in which something was measured, and its values."""
    measured = [
        (epoch, value)
        for epoch, value in zip(history["epoch"], history[name], strict=True)
        if not math.isnan(value)
    ]
    return [epoch for epoch, _ in measured], [value for _, value in measured]
