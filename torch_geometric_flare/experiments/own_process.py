"""One run of a comparison, in a process of its own."""

import json
import multiprocessing
import os
import pkgutil
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch_geometric_flare.datasets.records import write_json
from torch_geometric_flare.experiments.benchmark import Benchmark
from torch_geometric_flare.experiments.contest import Contest
from torch_geometric_flare.experiments.run import run_benchmark
from torch_geometric_flare.experiments.surroundings import (
    describe_machine,
    describe_versions,
)

Record = dict[str, Any]
_RECORD = "run.json"
_LOG = "log.txt"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A model to train with a seed.

    Args:
        contest: Benchmark, data and budget.
        model: Name of the model's class.
        seed: The seed.
        folder: Folder of the run. It gets what `run_benchmark` writes, `log.txt` with
            all that was printed, and `run.json`.
    """

    contest: Contest
    model: str
    seed: int
    folder: Path


def find_benchmark(reference: str) -> Benchmark:
    """Return the benchmark of a reference `package.module:NAME`.

    Raises:
        ValueError: If there is none.
    """
    try:
        found = pkgutil.resolve_name(reference)
    except (AttributeError, ImportError, ValueError) as error:
        raise ValueError(
            f"benchmark is {reference!r}, expected package.module:NAME: {error}"
        ) from error
    if not isinstance(found, Benchmark):
        raise ValueError(f"benchmark {reference!r} is a {type(found).__name__}")
    return found


def finished_record(folder: Path) -> Record | None:
    """Return the record of a run that has finished, else `None`.

    Args:
        folder: Folder of the run.
    """
    path = folder / _RECORD
    if not path.exists():
        return None
    record: Record = json.loads(path.read_text())
    return None if "error" in record else record


def run_in_own_process(job: Job) -> Record:
    """Make a run in a new process, carrying on what an earlier one has left.

    Args:
        job: The run.

    Returns:
        What `run.json` holds: `model`, `seed`, the results of `run_benchmark`,
        `versions` and `machine`; or `model`, `seed` and `error`, one sentence, if it
        failed.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    path = job.folder / _RECORD
    path.unlink(missing_ok=True)  # of a run that failed
    # Started afresh: a copy of this process would share its memory and its threads.
    process = multiprocessing.get_context("spawn").Process(
        target=_run_logged, args=(job,)
    )
    process.start()
    try:
        process.join()
    finally:
        process.terminate()  # where this process was interrupted
        process.join()
    if not path.exists():
        sentence = f"the process ended with exit code {process.exitcode}"
        write_json(path, _failure(job, sentence))
    record: Record = json.loads(path.read_text())
    return record


def run_job(job: Job) -> None:
    """Make a run in this process and write its record.

    Args:
        job: The run.
    """
    contest = job.contest
    try:
        results = run_benchmark(
            find_benchmark(contest.benchmark),
            job.model,
            contest.recipe,
            job.folder,
            selection=contest.selection,
            epochs=contest.epochs,
            seconds=contest.seconds,
            optimizer=contest.optimizer,
            init=contest.init,
            resume=True,
            device=contest.device,
            precision=contest.precision,
            seed=job.seed,
            progress=False,
        )
    except Exception as error:  # One run that fails must not stop the others.
        traceback.print_exc()
        record = _failure(job, _first_sentence(error))
    else:
        record = {
            "model": job.model,
            "seed": job.seed,
            **results,
            "versions": describe_versions(),
            "machine": describe_machine(),
        }
    write_json(job.folder / _RECORD, record)


def _run_logged(job: Job) -> None:
    """Make a run in a process all of whose output goes to the log."""
    with (job.folder / _LOG).open("a") as log:
        # Loggers hold the streams that they found when they were made.
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
    run_job(job)


def _failure(job: Job, sentence: str) -> Record:
    error = f"{sentence}; see {job.folder.name}/{_LOG}"
    return {"model": job.model, "seed": job.seed, "error": error}


def _first_sentence(error: Exception) -> str:
    text = " ".join(str(error).split()).partition(". ")[0][:300]
    if isinstance(error, (ValueError, OSError)) and text:
        return text
    return f"{type(error).__name__}: {text}"
