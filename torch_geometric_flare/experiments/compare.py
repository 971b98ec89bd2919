"""Comparison of several models on one benchmark under the same budget."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch_geometric_flare._provenance import hash_samples
from torch_geometric_flare.datasets.records import write_json
from torch_geometric_flare.experiments.benchmark import Benchmark
from torch_geometric_flare.experiments.config import (
    AblationConfig,
    ComparisonConfig,
    RunConfig,
    write_config,
)
from torch_geometric_flare.experiments.isolated_run import (
    Record,
    finished_record,
    isolated_run,
)
from torch_geometric_flare.experiments.report import write_comparison
from torch_geometric_flare.experiments.run import with_folder
from torch_geometric_flare.experiments.tables import Row

log = logging.getLogger(__name__)

_SETTINGS = "settings.json"
# Options that may differ between calls for the same folder.
_FREE = ("models", "over", "seeds", "root", "folder", "threads")


def compare_models(config: ComparisonConfig) -> list[Row]:
    """Train models on the same data under the same budget, and write a report.

    Each run, one model with one seed, has its own process and folder. A second call for
    the same folder does only the unfinished runs and resumes a killed one; models and
    seeds may be added, everything else must be the same. A failed run is listed in the
    table and does not stop the others.

    Writes `config.yaml`, `settings.json`, a folder per run, and finally `report.md`,
    `report.html`, `results.csv`, `results.json` and `cost.png`, and `quantities.csv` if
    the benchmark has quantities such as drag.

    Args:
        config: The comparison. Its `run.problem` must be a name, since a `Benchmark`
            cannot be sent to another process.

    Returns:
        The table: one row per model, then two baselines.

    Raises:
        ValueError: If the benchmark has no such model, recipe or data, or the folder
            has another comparison.
        OSError: If files are missing.
    """
    run = config.run
    benchmark = run.benchmark
    names = choose_models(benchmark, config.models, run.recipe)
    run = with_folder(run, "compare-")
    config = replace(config, run=run)
    folder = Path(str(run.folder))
    settings = settle(config, folder)
    records = finish_runs(
        {name: replace(run, model=name) for name in names}, config.seeds, folder
    )
    return write_comparison(run, settings, records)


def choose_models(benchmark: Benchmark, names: Sequence[str], recipe: str) -> list[str]:
    """Return the models of these names that have the recipe, each once.

    Args:
        benchmark: The benchmark.
        names: Names of classes, case-insensitive; empty for all.
        recipe: Name of the recipe.

    Raises:
        ValueError: If there is no such model, or it has no such recipe.
    """
    available = [
        model for model in benchmark.models if (model, recipe) in benchmark.recipes
    ]
    by_name = {model.lower(): model for model in available}
    for name in names:
        if name.lower() not in by_name:
            raise ValueError(
                f"{benchmark.name} has no recipe {recipe!r} for the model {name!r}; "
                f"models that have it: {', '.join(available)}"
            )
    chosen = [by_name[name.lower()] for name in names] or available
    return list(dict.fromkeys(chosen))


def finish_runs(
    runs: Mapping[str, RunConfig], seeds: int, folder: Path
) -> list[Record]:
    """Do all unfinished runs, each in its own process.

    Args:
        runs: The runs by their names in tables.
        seeds: Runs of each, with the seeds 0, 1, ...
        folder: Parent of the run folders `<name>-seed<seed>`.

    Returns:
        The records of all runs, with the names as `model`.
    """
    records: list[Record] = []
    jobs = [(name, seed) for name in runs for seed in range(seeds)]
    for number, (name, seed) in enumerate(jobs, start=1):
        place = str(folder / f"{name}-seed{seed}")
        record = _finish(
            replace(runs[name], seed=seed, folder=place),
            f"[{number}/{len(jobs)}] {name} seed {seed}",
        )
        records.append({**record, "model": name})
    return records


def _finish(config: RunConfig, place: str) -> Record:
    """Do a run unless it has finished, and log its result."""
    record = finished_record(Path(str(config.folder)))
    note = ", finished before" if record else ""
    if record is None:
        record = isolated_run(config)
    if "error" in record:
        log.info("%s: failed: %s", place, record["error"])
        return record
    log.info(
        f"{place}: relative L2 {record['relative_l2']:.4f}, {record['steps']} steps of "
        f"{record['seconds_per_step']:.4f} s, {record['seconds']:.0f} s in all{note}"
    )
    return record


def settle(config: ComparisonConfig | AblationConfig, folder: Path) -> dict[str, Any]:
    """Write the settings, or check that they equal those of an earlier call.

    Args:
        config: The options shared by all runs.
        folder: Parent of the run folders.

    Returns:
        The content of `settings.json`.

    Raises:
        ValueError: If the folder has runs with other settings.
    """
    splits = config.run.benchmark.load(config.run.selection)
    options = config.to_options()
    settings = {
        **{name: value for name, value in options.items() if name not in _FREE},
        "num_train": len(splits.train),
        "num_test": len(splits.test),
        "train_sha256": hash_samples(splits.train),
        "test_sha256": hash_samples(splits.test),
    }
    path = folder / _SETTINGS
    if path.exists():
        saved = json.loads(path.read_text())
        changed = {
            name: (saved.get(name), settings.get(name))
            for name in sorted({*saved, *settings})
            if saved.get(name) != settings.get(name)
        }
        if changed:
            raise ValueError(
                f"folder={str(folder)!r} holds another comparison; (there, now): "
                f"{changed}: take the same settings, or another folder"
            )
    write_config(config, folder)
    write_json(path, settings)
    return settings
