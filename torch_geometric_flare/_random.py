"""Seeds, and the random numbers of the caller, left as they are."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive_seed(seed: int, *key: int) -> int:
    """Return a seed for one purpose, unrelated to that of any other key."""
    state = np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)
    return int(state[0])


@contextmanager
def keep_random_state(devices: bool = True) -> Iterator[None]:
    """Restore the global generators of torch, numpy and `random` at the end.

    They are restored after an error too.

    Args:
        devices: Restore those of the GPUs as well. Not in a forked process, where CUDA
            cannot be used.
    """
    of_python, of_numpy = random.getstate(), np.random.get_state()
    # `fork_rng` warns about many devices unless they are named.
    number = torch.cuda.device_count() if devices else 0
    try:
        with torch.random.fork_rng(range(number)):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
