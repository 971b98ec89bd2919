"""One run of a comparison, isolated in its own process."""

import json
import logging
import multiprocessing
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch_geometric_flare
from torch_geometric_flare import training
from torch_geometric_flare._provenance import (
    describe_machine,
    describe_versions,
)
from torch_geometric_flare.datasets.records import write_json
from torch_geometric_flare.experiments.config import RunConfig
from torch_geometric_flare.experiments.run import run_benchmark

log = logging.getLogger(__name__)

Record = dict[str, Any]
_RECORD = "run.json"
_LOG = "log.txt"


def finished_record(folder: Path) -> Record | None:
    """Return the record of a finished run, or `None`.

    Args:
        folder: Folder of the run.
    """
    path = folder / _RECORD
    if not path.exists():
        return None
    record: Record = json.loads(path.read_text())
    return None if "error" in record else record


def isolated_run(config: RunConfig) -> Record:
    """Do a run in a new process, resuming an interrupted one.

    Writes the files of `run_benchmark`, `log.txt` with all output, and `run.json`.

    Args:
        config: The run; its `problem` must be a name, since a `Benchmark` cannot be
            sent to another process.

    Returns:
        The content of `run.json`: `model`, `seed`, the results of `run_benchmark`,
        `versions` and `machine`; or `model`, `seed` and `error`, one sentence, if the
        run failed.
    """
    folder = Path(str(config.folder))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _RECORD
    path.unlink(missing_ok=True)  # left by a failed run
    # Not forked, since a fork would share the memory and the threads of this process.
    process = multiprocessing.get_context("spawn").Process(
        target=_run_logged, args=(config,)
    )
    process.start()
    try:
        process.join()
    finally:
        process.terminate()  # in case this process was interrupted
        process.join()
    if not path.exists():
        sentence = f"the process ended with exit code {process.exitcode}"
        write_json(path, _failure(config, sentence))
    record: Record = json.loads(path.read_text())
    return record


def recorded_run(config: RunConfig) -> None:
    """Do a run in this process and write its record.

    Args:
        config: The run.
    """
    try:
        results = run_benchmark(replace(config, progress=False), resume=True)
    except Exception as error:  # A failed run must not stop the others.
        log.exception("the run failed")
        record = _failure(config, _first_sentence(error))
    else:
        record = {
            "model": config.model,
            "seed": config.seed,
            **results,
            "versions": {
                **describe_versions(),
                "torch_geometric_flare": torch_geometric_flare.__version__,
            },
            "machine": describe_machine(),
        }
    write_json(Path(str(config.folder), _RECORD), record)


def _run_logged(config: RunConfig) -> None:
    """Do a run with all output of the process redirected to its log file."""
    with Path(str(config.folder), _LOG).open("a", encoding="utf-8") as file:
        # Loggers keep the streams that existed at their creation.
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    with training.show_log():
        recorded_run(config)


def _failure(config: RunConfig, sentence: str) -> Record:
    error = f"{sentence}; see {Path(str(config.folder)).name}/{_LOG}"
    return {"model": config.model, "seed": config.seed, "error": error}


def _first_sentence(error: Exception) -> str:
    text = " ".join(str(error).split()).partition(". ")[0][:300]
    if isinstance(error, (ValueError, OSError)) and text:
        return text
    return f"{type(error).__name__}: {text}"
