"""Attribute names for features of samples, without name collisions."""

import hashlib
import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

# Attributes of samples, and names with a meaning in PyTorch Geometric.
_TAKEN = frozenset(
    (
        *("x", "y", "u", "pos", "area", "normal", "weight", "cells", "grid", "group"),
        *("adj", "adj_t", "e_id", "face", "feat", "n_id", "ptr", "tf"),
    )
)
_FREE = ("time",)  # an attribute of `Data` that may hold a feature
_RULED = re.compile("batch|index|edge|node|num_|__|^_")


def feature_key(name: str) -> str:
    """Return the attribute name of a feature in a sample.

    This is the name of the feature, unless it has another meaning: names such as `y`
    and `pos`, and names with special batching rules in PyTorch Geometric, such as all
    that contain `index`. For these, a unique name is generated.

    >>> feature_key("speed")
    'speed'
    >>> feature_key("y")
    'feature_kbpmoedg'

    Args:
        name: The name of the feature.
    """
    attribute = hasattr(Data, name) and name not in _FREE
    if name not in _TAKEN and not _RULED.search(name) and not attribute:
        return name
    digest = hashlib.sha256(name.encode()).digest()[:4]
    return "feature_" + "".join(
        chr(97 + half) for b in digest for half in (b >> 4, b % 16)
    )


def get_feature(data: Data, name: str) -> Any:
    """Return a feature of a sample, `None` if it has no feature of this name.

    The normals and areas of a sample can be features too.
    """
    value = data.get(feature_key(name))
    return data.get(name) if value is None and name in ("area", "normal") else value


def channel_bounds(samples: Iterable[Tensor]) -> tuple[list[float], list[float]]:
    """Return the minimum and maximum of each channel over a data set.

    Args:
        samples: One tensor per sample, $[N, C]$.

    Raises:
        ValueError: If there are no samples, or none with a row.
    """
    bounds = [torch.stack(rows.aminmax(dim=0)) for rows in samples if len(rows)]
    if not bounds:
        raise ValueError("samples is empty: there are no values to compute bounds of")
    both = torch.stack(bounds)  # [samples, 2, C]
    return both[:, 0].amin(0).tolist(), both[:, 1].amax(0).tolist()
