"""Simulated samples as files: one `.npz` each, written by worker processes."""

import functools
import multiprocessing
import os
import threading
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch_geometric.data import Data

from torch_geometric_flare.datasets.records import write_atomic

Bounds = tuple[tuple[float, float, float], tuple[float, float, float]]

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class Simulator(Protocol):
    """What `SimulatedDataset` asks of a simulator: a picklable dataclass.

    Its fields are its parameters; they must be expressible in JSON.
    """

    @property
    def name(self) -> str:
        """Short name for folders and messages."""

    @property
    def coordinate_bounds(self) -> Bounds:
        """Box in metres from which `x` is normalised."""

    def sample(self, rng: np.random.Generator) -> Mapping[str, npt.NDArray[Any]]:
        """Simulates one sample: the fields of its `Data`, drawing from `rng` alone."""


def sample_rng(seed: int, split: str, index: int) -> np.random.Generator:
    r"""Gives the random state of one sample of a `SimulatedDataset`.

    Args:
        seed: Seed of the data set.
        split: Name of the split.
        index: Index of the sample.

    Returns:
        A generator that depends on nothing else, neither on the number of samples nor
        on the order in which, or the process where, they are simulated.
    """
    key = (zlib.crc32(split.encode()), index)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def sample_file(index: int) -> str:
    r"""Gives the name of the file of a sample."""
    return f"{index:06d}.npz"


def simulate_files(
    simulator: Simulator,
    seed: int,
    split: str,
    folder: Path,
    indices: Sequence[int],
    num_workers: int,
) -> None:
    r"""Simulates samples and writes each one, atomically, as soon as it is finished.

    Args:
        simulator: The physics.
        seed: Seed of the data set.
        split: Name of the split.
        folder: Where the files go.
        indices: The samples.
        num_workers: Processes, of one thread each; 0 for this process.

    Raises:
        RuntimeError: If a sample fails or a process dies. Finished samples are kept.
    """
    from tqdm import tqdm

    job = functools.partial(_simulate_file, simulator, seed, split, folder)
    title = f"simulated data, {simulator.name}, {split}"
    with tqdm(total=len(indices), desc=title, unit="sample") as bar:
        if num_workers == 0:
            for index in indices:
                job(index)
                bar.update()
            return
        workers = min(num_workers, len(indices))
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, context, initializer=_follow_parent)
        with _single_threaded(), pool:
            try:
                futures = [pool.submit(job, index) for index in indices]
                for future in as_completed(futures):
                    future.result()
                    bar.update()
            except BrokenProcessPool as error:
                raise RuntimeError(
                    f"a process that ran {simulator.name} died. If at once: a script "
                    'must hold what it runs under `if __name__ == "__main__":`. If '
                    "later: memory may be short; lower `num_workers` (0 simulates in "
                    "this process). Finished samples are kept."
                ) from error
            finally:
                pool.shutdown(cancel_futures=True)


def read_sample(path: Path) -> Data:
    r"""Reads a sample from an `.npz` file of arrays or a `.pt` file of fields.

    Raises:
        FileNotFoundError: If the file is gone.
        ValueError: If its content is damaged.
    """
    again = "make the data set again, which restores this sample"
    try:
        if path.suffix == ".pt":
            return Data.from_dict(torch.load(path, weights_only=True))
        # NumPy leaves a damaged archive open when it opens the file itself.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return Data(**{name: torch.from_numpy(arrays[name]) for name in arrays})
    except FileNotFoundError as error:
        raise FileNotFoundError(f"'{path}' is gone: {again}.") from error
    except (
        EOFError,
        RuntimeError,
        UnpicklingError,
        ValueError,
        zipfile.BadZipFile,
    ) as error:
        raise ValueError(f"'{path}' is damaged: delete it and {again}.") from error


def remove_leftovers(folder: Path) -> None:
    r"""Deletes what a killed `write_atomic` left behind, once the file itself exists.

    A temporary file without its final one may belong to a process still at work.
    """
    for path in folder.glob(".*.tmp"):
        final = path.name[1:].rsplit(".", 2)[0]
        if path.with_name(final).exists():
            path.unlink(missing_ok=True)


def _simulate_file(
    simulator: Simulator, seed: int, split: str, folder: Path, index: int
) -> None:
    try:
        content = _npz(simulator.sample(sample_rng(seed, split, index)))
    except Exception as error:
        raise RuntimeError(
            f"{simulator.name} failed on sample {index} of split {split!r} with seed "
            f"{seed} ({type(error).__name__}: {error}). Finished samples are kept. "
            f"Repeat it by simulator.sample(sample_rng({seed}, {split!r}, {index}))."
        ) from error
    path = folder / sample_file(index)
    try:
        write_atomic(path, content)
    except FileNotFoundError:
        # Another run over the same folder may have finished this sample and taken
        # our temporary file for a leftover.
        if not path.exists():
            raise


def _npz(fields: Mapping[str, npt.NDArray[Any]]) -> bytes:
    for name, value in fields.items():
        if not isinstance(value, np.ndarray) or value.dtype.hasobject:
            raise TypeError(f"field {name!r} must be a numeric array, got {value!r}")
    arrays: dict[str, Any] = dict(fields)
    buffer = BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _follow_parent() -> None:
    # The worker of a killed process would wait for its next task forever.
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
