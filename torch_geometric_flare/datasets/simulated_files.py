"""Simulated samples as files: one `.npz` each, written by worker processes."""

import functools
import logging
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from torch_geometric.data import Data

from torch_geometric_flare._files import write_atomic
from torch_geometric_flare._not_converged import NotConverged
from torch_geometric_flare.datasets.arrays import array_length
from torch_geometric_flare.datasets.simulated_arrays import make_arrays, read_arrays
from torch_geometric_flare.datasets.simulator import REDRAWS, Simulator, sample_rng
from torch_geometric_flare.datasets.stored import deserialize, num_stored_points
from torch_geometric_flare.fields import Fields

_LOGGER = logging.getLogger(__name__)
_ATTEMPTS = 10
_AGAIN = "make the data set again, which restores this sample"

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def sample_file(index: int) -> str:
    r"""Return the name of the file of a sample."""
    return f"{index:06d}.npz"


def simulate_files(
    simulator: Simulator,
    seed: int,
    split: str,
    folder: Path,
    indices: Sequence[int],
    num_workers: int,
) -> None:
    r"""Simulate samples and write each atomically as soon as it is finished.

    A solution that did not converge is drawn again, from its own random state. A
    warning counts these; the file of such a sample holds their number as `redraws`.

    Args:
        simulator: The physics.
        seed: Seed of the data set.
        split: Name of the split.
        folder: Folder for the files.
        indices: The samples.
        num_workers: Number of processes, with one thread each; 0 for this process.

    Raises:
        RuntimeError: If a sample fails, or none of its ten draws converges, or a
            process dies. Finished samples are kept.
    """
    from tqdm import tqdm

    job = functools.partial(_simulate_file, simulator, seed, split, folder)
    title = f"simulated data, {simulator.name}, {split}"
    redraws = 0
    # A log file would contain every update of the bar.
    interval = 0.1 if sys.stderr.isatty() else 30.0
    with tqdm(
        total=len(indices), desc=title, unit="sample", mininterval=interval
    ) as bar:
        finished = (
            map(job, indices)
            if num_workers == 0
            else _in_workers(job, indices, num_workers, simulator.name)
        )
        for count in finished:
            redraws += count
            bar.update()
    if redraws:
        _LOGGER.warning(
            "%s: %d solution%s did not converge and %s drawn again",
            *(title, redraws, *(("", "was") if redraws == 1 else ("s", "were"))),
        )


def _in_workers(
    job: Callable[[int], int], indices: Sequence[int], num_workers: int, name: str
) -> Iterator[int]:
    """Yield the results of a job from single-threaded processes as they finish."""
    workers = min(num_workers, len(indices))
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_follow_parent)
    with _single_threaded(), pool:
        try:
            futures = [pool.submit(job, index) for index in indices]
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                f"a process that ran {name} died. If at once: a script "
                'must hold what it runs under `if __name__ == "__main__":`. If '
                "later: memory may be short; lower `num_workers` (0 simulates in "
                "this process). Finished samples are kept."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def read_sample(
    path: Path, fields: Fields, conditions: Fields = (), query_fields: Fields = ()
) -> Data:
    r"""Read a sample from an `.npz` file of arrays or a `.pt` file of fields.

    Args:
        path: The file.
        fields: The targets.
        conditions: The conditions of the whole sample.
        query_fields: The targets at query points, if any.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If its content is damaged.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"'{path}' is gone: {_AGAIN}.") from error
    if path.suffix == ".pt":
        return deserialize(content, path)
    try:
        return read_arrays(content, path, fields, conditions, query_fields)
    except ValueError as error:
        raise ValueError(
            f"'{path}' is damaged: delete it and {_AGAIN} ({error})."
        ) from error


def num_points(path: Path) -> int:
    r"""Return the number of points of a sample without reading its arrays.

    Args:
        path: An `.npz` file, of which one header is read, or a `.pt` file, which is
            memory-mapped.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If its content is damaged.
    """
    try:
        if path.suffix == ".pt":
            return num_stored_points(path)
        return array_length(path, "pos")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"'{path}' is gone: {_AGAIN}.") from error


def remove_leftovers(folder: Path) -> None:
    r"""Delete leftovers of a killed `write_atomic` whose final file exists.

    A temporary file without a final one may belong to a running process.
    """
    for path in folder.glob(".*.tmp"):
        final = path.name[1:].rsplit(".", 2)[0]
        if path.with_name(final).exists():
            path.unlink(missing_ok=True)


def _simulate_file(
    simulator: Simulator, seed: int, split: str, folder: Path, index: int
) -> int:
    """Write the file of a sample and return how many draws did not converge."""
    redraws = 0
    while True:
        try:
            raw = simulator.sample(sample_rng(seed, split, index, redraws))
            arrays = make_arrays(simulator, raw)
            break
        except NotConverged as error:
            redraws += 1
            if redraws == _ATTEMPTS:
                raise RuntimeError(
                    f"{simulator.name} found no solution for sample {index} of split "
                    f"{split!r} with seed {seed} in {_ATTEMPTS} draws (the last one: "
                    f"{error}). Its parameters ask too much of its solver: take a "
                    f"finer mesh or milder conditions than {simulator!r}. Finished "
                    "samples are kept."
                ) from error
        except Exception as error:
            attempt = f", {redraws}" if redraws else ""
            raise RuntimeError(
                f"{simulator.name} failed on sample {index} of split {split!r} with "
                f"seed {seed} ({type(error).__name__}: {error}). Finished samples are "
                "kept. Repeat it by "
                f"simulator.sample(sample_rng({seed}, {split!r}, {index}{attempt}))."
            ) from error
    if redraws:
        arrays[REDRAWS] = np.array(redraws)
    buffer = BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    path = folder / sample_file(index)
    try:
        write_atomic(path, buffer.getvalue())
    except FileNotFoundError:
        # Another run over the same folder may have finished this sample and taken
        # this temporary file for a leftover.
        if not path.exists():
            raise
    return redraws


def _follow_parent() -> None:
    # Otherwise the workers of a killed process would wait for tasks forever.
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _single_threaded() -> Iterator[None]:
    # Linear algebra libraries read these when they are loaded: in the processes that
    # start meanwhile, not in this one.
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
