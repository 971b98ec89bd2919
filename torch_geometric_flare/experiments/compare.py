"""Several models on one benchmark, under one budget, in one table."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch_geometric_flare.datasets.records import write_json
from torch_geometric_flare.experiments.benchmark import Benchmark
from torch_geometric_flare.experiments.comparison_files import write_comparison
from torch_geometric_flare.experiments.contest import Contest
from torch_geometric_flare.experiments.own_process import (
    Job,
    Record,
    find_benchmark,
    finished_record,
    run_in_own_process,
)
from torch_geometric_flare.experiments.summary import Row
from torch_geometric_flare.experiments.surroundings import hash_samples

_SETTINGS = "settings.json"


def compare_models(
    contest: Contest, models: Sequence[str], folder: str | Path, *, seeds: int = 3
) -> list[Row]:
    """Train models on the same data under the same budget, and write a report.

    Each run, one model with one seed, has its own process and its own folder. Called
    again for the same folder, it makes the runs that have not finished and carries on
    one that was killed; models and seeds may be added, all else must be the same. A run
    that fails is a line of the table and does not stop the others.

    Into the folder go `settings.json`, a folder per run, and at the end `report.md`,
    `report.html`, `results.csv`, `results.json` and `cost.png`, and `quantities.csv`
    where the benchmark has quantities such as drag.

    Args:
        contest: Data and budget.
        models: Names of the models' classes, in upper or lower case.
        folder: Where to write.
        seeds: Runs of each model, with the seeds 0, 1, ...

    Returns:
        The table: one row per model, then two baselines.

    Raises:
        ValueError: If the benchmark has no such model, recipe or data, or the folder
            holds another comparison.
        OSError: If files are missing.
    """
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {seeds}")
    benchmark = find_benchmark(contest.benchmark)
    names = choose_models(benchmark, models, contest.recipe)
    folder = Path(folder)
    settings = _settle(contest, benchmark, folder)
    jobs = [
        Job(
            contest=contest,
            model=model,
            seed=seed,
            folder=folder / f"{model}-seed{seed}",
        )
        for model in names
        for seed in range(seeds)
    ]
    records = []
    for number, job in enumerate(jobs, start=1):
        print(f"[{number}/{len(jobs)}] {job.model} seed {job.seed}: ", end="")
        records.append(_finish(job))
    return write_comparison(folder, contest, benchmark, settings, records)


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


def _finish(job: Job) -> Record:
    """Make a run, unless it has finished before, and end its line."""
    record = finished_record(job.folder)
    before = ", finished before" if record else ""
    if record is None:
        record = run_in_own_process(job)
    if "error" in record:
        print(f"failed: {record['error']}")
        return record
    print(
        f"relative L2 {record['relative_l2']:.4f}, {record['steps']} steps of "
        f"{record['seconds_per_step']:.4f} s, {record['seconds']:.0f} s in all{before}",
        flush=True,
    )
    return record


def _settle(contest: Contest, benchmark: Benchmark, folder: Path) -> dict[str, Any]:
    """Write the settings, or check that those of an earlier call are these."""
    splits = benchmark.load(contest.selection)
    settings = {
        **contest.to_dict(),
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
    write_json(path, settings)
    return settings
