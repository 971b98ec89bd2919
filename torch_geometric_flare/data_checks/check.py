"""Run all checks on a set of meshes."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from torch_geometric_flare import mesh_io
from torch_geometric_flare.data_checks.across import check_offsets, check_set
from torch_geometric_flare.data_checks.duplicates import check_duplicates
from torch_geometric_flare.data_checks.facts import (
    MeshFacts,
    Place,
    check_arrays,
    check_volumes,
    find_facts,
)
from torch_geometric_flare.data_checks.findings import (
    SEVERITIES,
    CheckReport,
    FieldStatistics,
    Finding,
)
from torch_geometric_flare.data_checks.forces import GivenForces, check_forces
from torch_geometric_flare.data_checks.surface import Faces, check_surface

CHECKS = {
    "unreadable": "the file cannot be read",
    "kind": "a mesh of another kind than most",
    "open surface": "edges of one face alone",
    "edges": "edges of more than two faces",
    "duplicated points": "points that coincide",
    "duplicated cells": "faces that are there twice",
    "empty cells": "faces without an area",
    "inverted cells": "cells of a negative volume",
    "winding": "faces wound against each other, or all inward",
    "normals": "normals of the file that point inward, or both ways",
    "units": "a size or a field far from those of the others",
    "place": "a mesh that stands elsewhere",
    "missing array": "an array or a condition that others have",
    "nan": "values that are not finite",
    "constant": "an array that is one number",
    "precision": "values whose variation single precision cannot hold",
    "offset": "a field that varies little about a large mean",
    "outliers": "values, arrays or conditions far from those of the others",
    "duplicates": "a mesh that is there twice, or nearly, in one split or in two",
    "predicted": "fields that a surrogate predicted",
    "forces": "forces of the fields that are not those given",
}
"""Name and description of each check."""


def check_meshes(
    splits: Mapping[str, Sequence[Path]],
    *,
    arrays: Iterable[Place] = (),
    forces: GivenForces | None = None,
    ignore: Collection[str] = (),
    part: Mapping[str, Any] | None = None,
) -> CheckReport:
    """Check meshes individually and against each other; nothing is written.

    Each file is read once, in a separate process, by `mesh_io.read_mesh`; possible near
    duplicates are read again. Only one mesh is in memory at a time.

    Args:
        splits: The files of each split.
        arrays: Arrays that each mesh must have, by location (`"cell"` or `"point"`) and
            name; by default those that most meshes have.
        forces: The forces to compare; `None` for none.
        ignore: Checks to skip, keys of `CHECKS`.
        part: `block` and `time` for `mesh_io.read_mesh`.

    Returns:
        The report.

    Raises:
        ValueError: If there are no meshes, or `ignore` has an unknown check.
    """
    unknown = sorted(set(ignore) - set(CHECKS))
    if unknown:
        raise ValueError(f"ignore is {unknown[0]!r}, expected some of {list(CHECKS)}")
    if not any(splits.values()):
        raise ValueError(f"splits hold no meshes: {dict(splits)}")
    findings: list[Finding] = []
    facts: list[MeshFacts] = []
    files = _name_files(splits)
    for split, paths in files.items():
        for name, path in paths.items():
            try:
                mesh = mesh_io.read_mesh(path, **(part or {}))
            except (OSError, ValueError) as error:
                remedy = "mend the file, or take it out"
                why = str(error)
                findings.append(Finding(name, "unreadable", "error", why, remedy))
                continue
            mesh_facts = find_facts(mesh, name, path, split)
            facts.append(mesh_facts)
            findings += check_arrays(mesh, name)
            if mesh_facts.kind == "surface":
                findings += check_surface(Faces(mesh), name)
            if mesh_facts.kind == "volume":
                findings += check_volumes(mesh, name)
            if forces is not None:
                findings += check_forces(mesh, name, forces)
    statistics = _pooled(facts)
    if facts:
        findings += check_set(facts, tuple(arrays))
        findings += check_offsets(statistics)
        findings += check_duplicates(
            facts, lambda one: mesh_io.read_mesh(one.path, **(part or {}))
        )
    order = {name: number for number, name in enumerate(CHECKS)}
    kept = [finding for finding in findings if finding.what not in ignore]
    kept.sort(key=lambda f: (SEVERITIES.index(f.severity), order[f.what], f.mesh))
    return CheckReport(tuple(kept), files, statistics)


def _name_files(splits: Mapping[str, Sequence[Path]]) -> dict[str, dict[str, Path]]:
    """Return the files by name, with the split if names are equal."""
    count = Counter(path.name for paths in splits.values() for path in paths)
    return {
        split: {
            path.name if count[path.name] == 1 else f"{split}/{path.name}": path
            for path in paths
        }
        for split, paths in splits.items()
    }


def _pooled(facts: Sequence[MeshFacts]) -> dict[Place, FieldStatistics]:
    """Return the statistics of each array over all meshes."""
    pooled = {}
    for place in sorted({place for mesh in facts for place in mesh.arrays}):
        statistics = [mesh.arrays[place] for mesh in facts if place in mesh.arrays]
        if len({len(one.mean) for one in statistics}) == 1:
            pooled[place] = reduce(FieldStatistics.merge, statistics)
    return pooled
