"""How fast a trained surrogate predicts."""

import copy
import itertools
import time
from collections.abc import Sequence

import torch
from torch_geometric.data import Data

from torch_geometric_flare.surrogates import Surrogate

_SECONDS = 0.5


def points_per_second(
    surrogate: Surrogate, samples: Sequence[Data], device: torch.device
) -> float:
    """Return the points that a surrogate predicts in a second, sample by sample.

    Samples are on the device before the clock starts. A network that needs edges makes
    them while it runs.

    Args:
        surrogate: A trained surrogate; it stays on `device`.
        samples: What to predict; taken in turn for about half a second.
        device: Where to compute.
    """
    surrogate.to(device)
    surrogate.predict(copy.copy(samples[0]).to(device))  # Warms up.
    points, seconds = 0, 0.0
    for sample in itertools.cycle(samples):
        data = copy.copy(sample).to(device)
        start = _now(device)
        prediction = surrogate.predict(data)
        seconds += _now(device) - start
        points += prediction.size(0)
        if seconds >= _SECONDS:
            break
    return points / seconds


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
