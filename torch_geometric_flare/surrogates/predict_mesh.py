"""Predict on a mesh and add the fields as arrays."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from torch_geometric_flare._finite import count_gaps
from torch_geometric_flare._provenance import PREDICTED, prediction_note
from torch_geometric_flare.fields import Fields
from torch_geometric_flare.surrogates.calibration import band
from torch_geometric_flare.surrogates.guarded_model import GuardedModel
from torch_geometric_flare.surrogates.mesh_sample import (
    MeshSample,
    judge_sample,
    read_sample,
    refuse_gaps,
)


def predict_mesh(surrogate: GuardedModel, mesh: Any, **options: Any) -> Any:
    """Return a copy of a mesh with predicted fields; see `Surrogate.predict_mesh`."""
    sample = read_sample(surrogate, mesh, **options)
    surrogate, data = sample.surrogate, sample.data
    summary = None
    if sample.is_judged:
        predicted, summary = surrogate.predict_with_summary(data)
    else:
        predicted = surrogate.predict(data)
    verdict = judge_sample(sample, summary)
    refuse_gaps(predicted, sample.name)
    values, bands = surrogate.split(predicted), {}
    notes = sample_notes(sample, verdict)
    if surrogate.calibration is not None:
        bands = surrogate.split(band(surrogate, data, predicted, "marginal"))
        notes["band_level"] = f"{surrogate.calibration.level:g}"
    add_fields(
        sample.mesh,
        sample.fields,
        values,
        sample.location,
        notes,
        sample.name,
        outside=sample.outside,
        bands=bands,
    )
    return sample.mesh


def sample_notes(sample: MeshSample, verdict: str) -> dict[str, str]:
    """Return the notes that the field data of every prediction get."""
    return {
        "provenance": _provenance(sample.surrogate),
        "weights": sample.weights,
        "guard": verdict,
    }


def add_fields(
    mesh: Any,
    fields: Fields,
    values: Mapping[str, Tensor],
    location: str,
    notes: Mapping[str, str],
    name: str,
    *,
    outside: Tensor,
    bands: Mapping[str, Tensor] | None = None,
) -> None:
    """Add predicted fields to a mesh, and their errors if it has the true fields.

    Args:
        mesh: A PyVista dataset, which is changed in place.
        fields: Names and units of the fields, and the arrays of the true values.
        values: Predictions by name, [N, C].
        location: Where they lie: `"cell"` or `"point"`.
        notes: Texts for the field data.
        name: Name of the mesh in warnings.
        outside: Whether each point lies outside the training box, [N].
        bands: Half widths around the predictions by name, [N, C].
    """
    from torch_geometric_flare import mesh_io

    arrays = mesh.cell_data if location == "cell" else mesh.point_data
    notes, bands = dict(notes), bands or {}
    if outside.any():
        arrays["outside_box"] = outside.numpy().astype("uint8")
    # An earlier prediction has renamed the true field.
    suffix = "_true" if prediction_note(mesh) else ""
    for field in fields:
        predicted = values[field.name].squeeze(1).cpu().numpy()
        true_name = field.array if field.source in arrays else f"{field.name}{suffix}"
        if true_name in arrays:
            truth = arrays[true_name]
            if truth.shape == predicted.shape and truth.dtype.kind in "fiu":
                arrays[f"{field.name}_true"] = truth
                arrays[f"{field.name}_error"] = predicted - truth
                _warn_of_gaps(f"{field.name}_true", truth, name)
        arrays[field.name] = predicted
        if field.name in bands:
            arrays[f"{field.name}_band"] = bands[field.name].squeeze(1).cpu().numpy()
        notes[f"{field.name}_unit"] = field.unit
        notes[f"{field.name}_location"] = location
    mesh_io.add_notes(mesh, notes)


def _warn_of_gaps(array: str, truth: Any, name: str) -> None:
    """Warn about true values that are not finite."""
    finite = np.isfinite(truth).reshape(len(truth), -1).all(axis=1)
    if not finite.all():
        warnings.warn(
            f"{array} of {name} has {count_gaps(finite)}, which are left out of "
            "errors, pictures and forces",
            stacklevel=4,
        )


def _provenance(surrogate: GuardedModel) -> str:
    """Return the provenance note: the model and its training data."""
    data = surrogate.training_data or "data that it does not name"
    return f"{PREDICTED} {type(surrogate.model).__name__}, trained on {data}"
