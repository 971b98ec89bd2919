"""Checks of meshes against each other: types, units, arrays, outliers."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from torch_geometric_flare._precision import LARGEST_OFFSET
from torch_geometric_flare.data_checks.facts import NORMALS, MeshFacts, Place
from torch_geometric_flare.data_checks.findings import FieldStatistics, Finding

Floats = npt.NDArray[np.float64]

_FEWEST_FOR_UNITS, _FEWEST_FOR_OUTLIERS = 3, 10
_UNIT_FACTOR, _FIELD_FACTOR = 8.0, 100.0
# Ratio of diagonals between a mesh and the others.
_FAR = 3.0
# Robust deviations from the median that clean data rarely reach.
_OUTLIER = 8.0
_MOST_CLOSED = 2 / 3
_UNITS = {
    "millimeters": 1000.0,
    "centimeters": 100.0,
    "inches": 1 / 0.0254,
    "feet": 1 / 0.3048,
    "kilometers": 1e-3,
}


def check_set(
    meshes: Sequence[MeshFacts], wanted: Sequence[Place] = ()
) -> Iterator[Finding]:
    """Compare the facts of all meshes with each other.

    Args:
        meshes: Facts of all meshes.
        wanted: Arrays that each mesh must have; by default those that most meshes have.
    """
    yield from _check_kinds(meshes)
    yield from _check_borders(meshes)
    yield from _check_units(meshes)
    yield from _check_arrays(meshes, wanted)
    yield from _check_constants(meshes)
    yield from _check_statistics(meshes)
    yield from _check_conditions(meshes)


def check_offsets(statistics: Mapping[Place, FieldStatistics]) -> Iterator[Finding]:
    """Check that no field varies by less than a hundredth of its mean.

    Args:
        statistics: Statistics of each array over all meshes.
    """
    for (location, name), one in statistics.items():
        far = np.abs(one.mean) > LARGEST_OFFSET * one.deviation
        for channel in np.flatnonzero(far & (one.deviation > 0)):
            mean, deviation = one.mean[channel], one.deviation[channel]
            channels = f", channel {channel}" if len(one.mean) > 1 else ""
            yield Finding(
                "",
                "offset",
                "warning",
                f"{location} data {name!r}{channels}: the mean is {mean:.6g}, the "
                f"deviation {deviation:.3g}, so a constant has a relative error of "
                f"{deviation / abs(mean):.2g}",
                "to predict it, write the difference from a reference value",
            )


def robust_scores(values: Floats) -> Floats:
    r"""Return the distance of each value from the median in robust deviations.

    A robust deviation is 1.4826 times the median of the distances from the median; if
    that is zero, 1.2533 times their mean. Both equal the standard deviation for a
    normal distribution.

    Args:
        values: Numbers, $[M]$.

    Returns:
        Distances, $[M]$; zero if all are the same.
    """
    distance = np.abs(values - np.median(values))
    scale = 1.4826 * np.median(distance) or math.sqrt(math.pi / 2) * distance.mean()
    scores: Floats = distance / scale if scale > 0 else np.zeros_like(distance)
    return scores


def _check_kinds(meshes: Sequence[MeshFacts]) -> Iterator[Finding]:
    kinds = [f"{'flat ' if mesh.flat else ''}{mesh.kind}" for mesh in meshes]
    (most, _), *others = Counter(kinds).most_common()
    if not others:
        return
    for mesh, kind in zip(meshes, kinds, strict=True):
        if kind != most:
            yield Finding(
                mesh.name,
                "kind",
                "error",
                f"it is a mesh of {kind}, most others are of {most}",
                "put it into a folder of its kind",
            )


def _check_borders(meshes: Sequence[MeshFacts]) -> Iterator[Finding]:
    surfaces = [mesh for mesh in meshes if mesh.kind == "surface" and not mesh.flat]
    closed = sum(not mesh.borders for mesh in surfaces)
    odd = len(surfaces) > 1 and closed >= _MOST_CLOSED * len(surfaces)
    for mesh in surfaces:
        if mesh.borders:
            yield Finding(
                mesh.name,
                "open surface",
                "error" if odd else "warning",
                f"{mesh.borders}{', and most other surfaces are closed' if odd else ''}"
                ": the force of a uniform pressure is not zero",
                "fill the holes or merge the points of a crack (PyVista: "
                "mesh.clean(tolerance=...), mesh.fill_holes(...))",
                mesh.border_places,
            )


def _check_units(meshes: Sequence[MeshFacts]) -> Iterator[Finding]:
    if len(meshes) < _FEWEST_FOR_UNITS:
        return
    sizes = np.array([mesh.size for mesh in meshes])
    median = float(np.median(sizes)) or 1.0
    middle = np.median([(mesh.low + mesh.high) / 2 for mesh in meshes], axis=0)
    for mesh, ratio in zip(meshes, (sizes / median).tolist(), strict=True):
        if not 1 / _UNIT_FACTOR < ratio < _UNIT_FACTOR:
            units = [u for u, f in _UNITS.items() if 0.6 < ratio / f < 1 / 0.6]
            guess = f": in {units[0]}, if the others are in meters" if units else ""
            yield Finding(
                mesh.name,
                "units",
                "error",
                f"its size is {mesh.size:.4g}, {ratio:.4g} times the median of all "
                f"meshes{guess}",
                f"scale it by {1 / (_UNITS[units[0]] if units else ratio):.4g}",
            )
            continue
        away = float(np.linalg.norm((mesh.low + mesh.high) / 2 - middle))
        if away > _FAR * median:
            yield Finding(
                mesh.name,
                "place",
                "warning",
                f"its middle lies {away:.4g} away from that of the others, whose size "
                f"is {median:.4g}",
                "move it to where the others stand",
            )


def _check_arrays(
    meshes: Sequence[MeshFacts], wanted: Sequence[Place]
) -> Iterator[Finding]:
    places = Counter(place for mesh in meshes for place in mesh.arrays)
    common = [place for place, number in places.items() if number > len(meshes) / 2]
    for location, name in wanted or common:
        candidates = [mesh.arrays.get((location, name)) for mesh in meshes]
        channels = Counter(len(one.mean) for one in candidates if one is not None)
        most = channels.most_common(1)[0][0] if channels else 0
        for mesh, one in zip(meshes, candidates, strict=True):
            if one is None or len(one.mean) != most:
                yield Finding(
                    mesh.name,
                    "missing array",
                    "error",
                    f"it has no {location} data {name!r}"
                    if one is None
                    else f"{location} data {name!r} have {len(one.mean)} channels, "
                    f"those of most meshes {most}",
                    "write the array, or take the mesh out",
                )


def _check_constants(meshes: Sequence[MeshFacts]) -> Iterator[Finding]:
    """An array that is constant over a mesh."""
    for place in _all_places(meshes):
        having = [mesh for mesh in meshes if place in mesh.arrays]
        still = [
            mesh
            for mesh in having
            if mesh.arrays[place].count > 1
            and bool((mesh.arrays[place].low == mesh.arrays[place].high).all())
        ]
        what = f"{place[0]} data {place[1]!r}"
        if still and len(still) == len(having):
            yield Finding(
                "",
                "constant",
                "warning",
                f"{what} are one number in each of {len(having)} meshes",
                "make it a condition (field data), or leave it out",
            )
        for mesh in still if len(still) < len(having) / 2 else ():
            value = ", ".join(f"{number:g}" for number in mesh.arrays[place].low)
            yield Finding(
                mesh.name,
                "constant",
                "error",
                f"{what} are {value} everywhere, and vary in the others",
                "write the field of this mesh again",
            )


def _check_statistics(meshes: Sequence[MeshFacts]) -> Iterator[Finding]:
    """Compare each statistic of each array over the meshes."""
    conditions = {name for mesh in meshes for name in mesh.conditions}
    varied = any(len(set(map(tuple, _values(meshes, n)))) > 1 for n in conditions)
    for location, name in _all_places(meshes):
        if name.lower() in NORMALS:
            continue
        candidates = [mesh.arrays.get((location, name)) for mesh in meshes]
        having = [
            m for m, one in zip(meshes, candidates, strict=True) if one is not None
        ]
        present = [one for one in candidates if one is not None]
        channels = {len(one.mean) for one in present}
        if len(channels) != 1 or any(not one.count for one in present):
            continue
        for channel in range(channels.pop()):
            what = f"{location} data {name!r}"
            if len(present[0].mean) > 1:
                what += f", channel {channel}"
            low, high, mean, deviation = (
                np.array([getattr(one, key)[channel] for one in present])
                for key in ("low", "high", "mean", "deviation")
            )
            spread = float(np.median(deviation))
            seen = _check_scales(having, deviation, what, varied)
            yield from seen
            still = [
                m.name for m, one in zip(having, deviation, strict=True) if one == 0
            ]
            named = {finding.mesh for finding in seen} | set(still)
            numbers = {"mean": mean, "least value": low, "largest value": high}
            for label, values in (*numbers.items(), ("deviation", deviation)):
                if len(values) < _FEWEST_FOR_OUTLIERS or spread == 0:
                    continue
                # Some statistics hardly vary: a difference must matter for the field.
                far = np.abs(values - np.median(values)) > spread
                for index in np.flatnonzero(far & _outliers(values)):
                    if having[index].name in named:
                        continue
                    named.add(having[index].name)
                    yield Finding(
                        having[index].name,
                        "outliers",
                        "warning",
                        f"{what}: the {label} is {values[index]:.4g}, the median of "
                        f"all meshes {np.median(values):.4g}",
                        "look at it: other units, another reference, or a solution "
                        "that did not converge?",
                    )


def _check_scales(
    meshes: Sequence[MeshFacts], deviation: Floats, what: str, varied: bool
) -> list[Finding]:
    if len(meshes) < _FEWEST_FOR_UNITS or not np.median(deviation) > 0:
        return []
    ratios = deviation / np.median(deviation)
    return [
        Finding(
            mesh.name,
            "units",
            "warning" if varied else "error",
            f"{what}: the deviation is {ratio:.4g} times the median of all meshes",
            "write the field in the unit of the others",
        )
        for mesh, ratio in zip(meshes, ratios.tolist(), strict=True)
        if ratio > 0 and not 1 / _FIELD_FACTOR < ratio < _FIELD_FACTOR
    ]


def _check_conditions(meshes: Sequence[MeshFacts]) -> Iterator[Finding]:
    names = Counter(name for mesh in meshes for name in mesh.conditions)
    for name, number in names.items():
        having = [mesh for mesh in meshes if name in mesh.conditions]
        if len(meshes) / 2 < number < len(meshes):
            for mesh in meshes:
                if name not in mesh.conditions:
                    yield Finding(
                        mesh.name,
                        "missing array",
                        "warning",
                        f"it has no field data {name!r}, which most meshes have",
                        "write the condition",
                    )
        for mesh in having:
            if not np.isfinite(mesh.conditions[name]).all():
                yield Finding(
                    mesh.name,
                    "nan",
                    "error",
                    f"field data {name!r} are {mesh.conditions[name].tolist()}",
                    "write the condition again",
                )
        having = [m for m in having if np.isfinite(m.conditions[name]).all()]
        if len(having) < _FEWEST_FOR_OUTLIERS:
            continue
        values = _values(having, name)
        if values.size == 0:
            continue
        for channel, column in enumerate(values.T):
            for index in np.flatnonzero(_outliers(column)):
                of = f"[{channel}]" if values.shape[1] > 1 else ""
                yield Finding(
                    having[index].name,
                    "outliers",
                    "warning",
                    f"the condition {name}{of} is {column[index]:.6g}, the median of "
                    f"all meshes {np.median(column):.6g}",
                    "check its value and its unit",
                )


def _outliers(values: Floats) -> npt.NDArray[np.bool_]:
    """Return which values are outliers, on linear and log scale if positive."""
    outliers: npt.NDArray[np.bool_] = robust_scores(values) > _OUTLIER
    if (values > 0).all():
        outliers &= robust_scores(np.log(values)) > _OUTLIER
    return outliers


def _values(meshes: Sequence[MeshFacts], name: str) -> Floats:
    """Return a condition of each mesh, $[M, C]$; empty if channels differ."""
    rows = [mesh.conditions[name] for mesh in meshes if name in mesh.conditions]
    if len({len(row) for row in rows}) != 1:
        return np.empty((len(rows), 0))
    return np.array(rows)


def _all_places(meshes: Sequence[MeshFacts]) -> list[Place]:
    return sorted({place for mesh in meshes for place in mesh.arrays})
