"""The model card of a surrogate."""

from collections.abc import Mapping, Sequence

from torch_geometric_flare.fields import Fields, channel_names, channel_slices
from torch_geometric_flare.surrogates.guard import Guard
from torch_geometric_flare.surrogates.normalized_model import NormalizedModel
from torch_geometric_flare.surrogates.normalized_points import NormalizedPoints
from torch_geometric_flare.transforms import Normalizer

_HEAD = """---
library_name: torch_geometric_flare
tags:
- physics
- mesh
- surrogate
- torch_geometric
---
"""
_RELATIVE_L2 = (
    "`relative_l2` is the norm of the difference between prediction and truth over "
    "that of the truth, for each sample; the mean over the test samples."
)


def model_card(surrogate: NormalizedModel, metrics: Mapping[str, float]) -> str:
    """Return a model card in Markdown.

    It states the training data and whether they were simulated, the inputs and outputs
    with their units, the box in which predictions are valid, and the metrics.

    Args:
        surrogate: The surrogate.
        metrics: Measured errors by name.
    """
    network, kind = type(surrogate.model).__name__, type(surrogate).__name__
    parts = [
        _HEAD,
        f"# {network} surrogate of {_names(surrogate.fields)}",
        "## Data",
        _data(surrogate.training_data),
        "## Fields",
        _table(("Predicted", "Channels", "Unit"), _rows(surrogate.fields)),
        "## Input",
        _inputs(surrogate.features, surrogate.conditions, surrogate.condition_bounds),
        *_query(surrogate),
        "## Where it holds",
        _box(surrogate.coordinate_normalizer),
        _guard(surrogate.guard),
        *_calibration(surrogate),
        "## Errors",
        _metrics(metrics),
        "## Use",
        "```python\n"
        f"from torch_geometric_flare.surrogates import {kind}\n\n"
        f'surrogate = {kind}.from_pretrained("this folder, or owner/name")\n'
        "fields = surrogate.predict(data)  # in the units above\n"
        "```",
    ]
    return "\n\n".join(parts) + "\n"


def _names(fields: Fields) -> str:
    return ", ".join(field.name for field in fields)


def _rows(fields: Fields) -> list[tuple[str, str, str]]:
    return [(f.name, str(f.channels), f.unit or "none") for f in fields]


def _table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    rule = ("---",) * len(headings)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rule, *rows))


def _data(training_data: str | None) -> str:
    if training_data is None:
        return "What it was trained on is not stated, nor whether that was simulated."
    words = " ".join(training_data.split())
    sentence = f"Trained on {words}."
    if "simulated" in words.lower():
        sentence += " These are simulated, not the official data of a benchmark."
    return sentence


def _inputs(
    features: Fields,
    conditions: Fields,
    bounds: tuple[list[float], list[float]] | None = None,
) -> str:
    text = "The coordinates of the points, in the unit of the training data."
    if features:
        table = _table(("Input", "Channels", "Unit"), _rows(features))
        text = f"The coordinates of the points, and at each point:\n\n{table}"
    if conditions:
        headings: tuple[str, ...] = ("Condition", "Channels", "Unit")
        rows: Sequence[tuple[str, ...]] = _rows(conditions)
        if bounds is not None:
            headings = (*headings, "Trained from", "To")
            columns = channel_slices(conditions).values()
            rows = [
                (*row, *(", ".join(f"{v:.4g}" for v in side[at]) for side in bounds))
                for row, at in zip(rows, columns, strict=True)
            ]
        table = _table(headings, rows)
        text += f"\n\nFor each sample as a whole:\n\n{table}"
    return text


def _query(surrogate: NormalizedModel) -> list[str]:
    """Return the section on query points if the surrogate has any."""
    query = getattr(surrogate, "query", None)
    if not isinstance(query, NormalizedPoints):
        return []
    rows = _rows(query.fields)
    return [
        "## Query points",
        "Beside the points above, which carry the geometry, it predicts at any others.",
        _table(("Predicted there", "Channels", "Unit"), rows),
        _inputs(query.features, ()),
    ]


def _box(normalizer: Normalizer | None) -> str:
    if normalizer is None:
        return "The box of the training data is not stated."
    lower = normalizer.shift.tolist()
    upper = (normalizer.shift + normalizer.scale).tolist()
    rows = [
        (axis, f"{low:.6g}", f"{high:.6g}")
        for axis, low, high in zip("xyz", lower, upper, strict=False)
    ]
    table = _table(("Axis", "From", "To"), rows)
    return (
        "Points in the box of the training data, in their unit of length. Outside of "
        f"it, and for other kinds of shapes, nothing was measured.\n\n{table}"
    )


def _guard(guard: Guard | None) -> str:
    if guard is None:
        return "It has no guard: nothing says whether a sample is like those of it."
    return (
        f"Its guard compares a sample with {len(guard.names)} of the training, with "
        f"thresholds {guard.basis}."
    )


def _calibration(surrogate: NormalizedModel) -> list[str]:
    calibration = surrogate.calibration
    if calibration is None:
        return []
    rows = [
        (name, f"{width:.4g}", f"{everywhere:.4g}")
        for name, width, everywhere in zip(
            channel_names(surrogate.fields),
            calibration.marginal.tolist(),
            calibration.simultaneous.tolist(),
            strict=True,
        )
    ]
    unit = "in its unit"
    if calibration.members:
        unit = "in units of the members' deviation"
    bounds = calibration.relative_l2 | calibration.quantities
    table = _table(("Field", "Half width at a point", "At all points at once"), rows)
    return [
        "## Bands",
        f"Calibrated on {calibration.num_samples} held-out samples: with probability "
        f"{calibration.level:g} the truth of a new sample of this kind lies in the "
        f"band of a field, {unit}.",
        table,
        _table(
            ("Error that is exceeded as rarely", "Value"),
            [(name, f"{value:.4g}") for name, value in bounds.items()],
        ),
    ]


def _metrics(metrics: Mapping[str, float]) -> str:
    if not metrics:
        return "None was given when this surrogate was saved."
    rows = [(f"`{name}`", f"{value:.4g}") for name, value in metrics.items()]
    table = _table(("Metric", "Value"), rows)
    return f"{table}\n\n{_RELATIVE_L2}" if "relative_l2" in metrics else table
