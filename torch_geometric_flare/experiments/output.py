"""Pictures and files of a run."""

import math
from pathlib import Path
from typing import Any

from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare.experiments.benchmark import Benchmark
from torch_geometric_flare.fields import Fields, channel_slices
from torch_geometric_flare.mesh_io import add_notes, save_dataset, write_points
from torch_geometric_flare.training import read_history
from torch_geometric_flare.visualization import plot_training_curves


def draw_sample(
    folder: Path,
    benchmark: Benchmark,
    data: Data,
    prediction: Tensor,
    fields: Fields,
    titles: dict[str, str],
    mesh: Any = None,
) -> None:
    """Write a picture of each field, and all fields to a file for ParaView.

    With one field the picture is `<picture>.png` and the arrays of `prediction.vtp` are
    `truth`, `prediction` and `error`; with several all are named by field.

    Args:
        folder: Where to write.
        benchmark: How to draw.
        data: A sample.
        prediction: Its predicted fields, $[N, C]$.
        fields: What the columns are.
        titles: Heading for each field by its name; says whether it is simulated.
        mesh: The sample's mesh with truth, prediction and error, as
            `surrogates.Surrogate.predict_mesh` returns it, to write instead of points.
    """
    arrays: dict[str, Tensor] = {}
    notes: dict[str, str] = {}
    for field, columns in zip(fields, channel_slices(fields).values(), strict=True):
        truth, predicted = data.y[:, columns], prediction[:, columns]
        figure = benchmark.plot(
            data, predicted, field, title=titles[field.name], truth=truth
        )
        alone = len(fields) == 1
        suffix, prefix = ("", "") if alone else (f"_{field.name}", f"{field.name}_")
        figure.savefig(folder / f"{benchmark.picture}{suffix}.png", dpi=150)
        arrays |= {
            f"{prefix}truth": truth,
            f"{prefix}prediction": predicted,
            f"{prefix}error": predicted - truth,
        }
        notes[f"{prefix}title"] = titles[field.name]
        notes[f"{field.name}_unit"] = field.unit
    target = folder / "prediction.vtp"
    if mesh is None:
        write_points(target, data.pos, arrays, notes=notes)
    else:
        add_notes(mesh, notes)
        save_dataset(mesh, target)


def draw_history(folder: Path, title: str, fields: Fields) -> None:
    """Write `loss.png`, the errors of training and validation over the epochs.

    Args:
        folder: The folder of the training.
        title: Heading; says whether the data are simulated.
        fields: With several, each has a curve of its own besides their mean.
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
