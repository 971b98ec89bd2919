"""Several models on one benchmark, under one budget, in one table."""

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
    CONFIG,
    AblationConfig,
    ComparisonConfig,
    RunConfig,
)
from torch_geometric_flare.experiments.isolated_run import (
    Record,
    finished_record,
    isolated_run,
)
from torch_geometric_flare.experiments.report import write_comparison
from torch_geometric_flare.experiments.run import make_folder
from torch_geometric_flare.experiments.tables import Row

log = logging.getLogger(__name__)

_SETTINGS = "settings.json"
# What may change from one call for a folder to the next.
_FREE = ("models", "over", "seeds", "root", "folder", "threads")


def compare_models(config: ComparisonConfig) -> list[Row]:
    """Train models on the same data under the same budget, and write a report.

    Each run, one model with one seed, has its own process and its own folder. Called
    again for the same folder, it makes the runs that have not finished and carries on
    one that was killed; models and seeds may be added, all else must be the same. A run
    that fails is a line of the table and does not stop the others.

    Into the folder go `config.yaml`, `settings.json`, a folder per run, and at the end
    `report.md`, `report.html`, `results.csv`, `results.json` and `cost.png`, and
    `quantities.csv` where the benchmark has quantities such as drag.

    Args:
        config: The comparison. Its `run.problem` is a name, as functions of a benchmark
            do not travel to another process.

    Returns:
        The table: one row per model, then two baselines.

    Raises:
        ValueError: If the benchmark has no such model, recipe or data, or the folder
            holds another comparison.
        OSError: If files are missing.
    """
    run = config.run
    benchmark = run.benchmark
    names = choose_models(benchmark, config.models, run.recipe)
    if run.folder is None:
        run = replace(run, folder=str(make_folder(run, "compare-")))
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
        benchmark: Whose models.
        names: Names of classes, in upper or lower case; none for all.
        recipe: Name of the recipe.

    Raises:
        ValueError: If there is no such model, or it has no such recipe.
    """
    known = [
        model for model in benchmark.models if (model, recipe) in benchmark.recipes
    ]
    by_name = {model.lower(): model for model in known}
    for name in names:
        if name.lower() not in by_name:
            raise ValueError(
                f"{benchmark.name} has no recipe {recipe!r} for the model {name!r}; "
                f"models that have it: {', '.join(known)}"
            )
    chosen = [by_name[name.lower()] for name in names] or known
    return list(dict.fromkeys(chosen))


def finish_runs(
    runs: Mapping[str, RunConfig], seeds: int, folder: Path
) -> list[Record]:
    """Make runs, each with its own process, but for those that have finished before.

    Args:
        runs: The runs by the name that tables show.
        seeds: Runs of each, with the seeds 0, 1, ...
        folder: Where `<name>-seed<seed>` is the folder of a run.

    Returns:
        The records of all runs. The name stands as their `model`.
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
    """Make a run, unless it has finished before, and log its result."""
    record = finished_record(Path(str(config.folder)))
    before = ", finished before" if record else ""
    if record is None:
        record = isolated_run(config)
    if "error" in record:
        log.info("%s: failed: %s", place, record["error"])
        return record
    log.info(
        f"{place}: relative L2 {record['relative_l2']:.4f}, {record['steps']} steps of "
        f"{record['seconds_per_step']:.4f} s, {record['seconds']:.0f} s in all{before}"
    )
    return record


def settle(config: ComparisonConfig | AblationConfig, folder: Path) -> dict[str, Any]:
    """Write the settings, or check that those of an earlier call are these.

    Args:
        config: What all runs share.
        folder: Where all runs lie.

    Returns:
        What `settings.json` holds.

    Raises:
        ValueError: If the folder holds runs with other settings.
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
        theirs = json.loads(path.read_text())
        changed = {
            name: (theirs.get(name), settings.get(name))
            for name in sorted({*theirs, *settings})
            if theirs.get(name) != settings.get(name)
        }
        if changed:
            raise ValueError(
                f"folder={str(folder)!r} holds another comparison; (there, now): "
                f"{changed}: take the same settings, or another folder"
            )
    folder.mkdir(parents=True, exist_ok=True)
    replace(config, run=replace(config.run, folder=None)).save(folder / CONFIG)
    write_json(path, settings)
    return settings
