"""Splits that depend only on the name of each sample."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

FRACTIONS = (0.8, 0.1, 0.1)
"""Default shares of training, validation and test."""

_SPLITS = ("train", "val", "test")


class NamedSplits(NamedTuple):
    """The samples of each split.

    Attributes:
        names: The names of each split, in alphabetical order.
        borrowed: The split of each sample that is not in the split of its hash.
    """

    names: dict[str, list[str]]
    borrowed: dict[str, str]


def split_by_name(
    names: Sequence[str],
    fractions: Sequence[float],
    seed: int,
    borrowed: Mapping[str, str],
) -> NamedSplits:
    """Assign each sample to a split by the SHA-256 of seed and name.

    The hash is a number from 0 to 1. Below the validation share a sample is in the
    validation split, below the sum of both shares in the test split, above it in the
    training split.

    An empty split borrows from the largest one and keeps the borrowed samples when
    others are added, so that no held-out sample is trained on later.

    Args:
        names: The samples.
        fractions: Shares of training, validation and test.
        seed: The seed.
        borrowed: Samples borrowed before; may be malformed.

    Raises:
        ValueError: If there are fewer samples than splits with a positive share.
    """
    _, val, test = fractions
    wanted = [split for split, share in zip(_SPLITS, fractions, strict=True) if share]
    if len(names) < len(wanted):
        raise ValueError(
            f"{len(names)} meshes are too few for fractions={tuple(fractions)}: "
            f"each of {', '.join(wanted)} needs one."
        )
    limits = {"val": (0.0, val), "test": (val, val + test), "train": (val + test, 1.0)}
    place = {name: _place(name, seed) for name in names}
    members: dict[str, list[str]] = {split: [] for split in _SPLITS}
    kept = {name: s for name, s in borrowed.items() if s in wanted}
    for name in sorted(names):
        own = next(
            (s for s in ("val", "test") if limits[s][0] <= place[name] < limits[s][1]),
            "train",
        )
        members[kept.get(name, own)].append(name)
    for split in wanted:
        if not members[split]:
            lender = max(wanted, key=lambda other: len(members[other]))
            middle = sum(limits[split]) / 2
            nearest = min(members[lender], key=lambda n: (abs(place[n] - middle), n))
            members[lender].remove(nearest)
            members[split].append(nearest)
            kept[nearest] = split
    return NamedSplits(members, kept)


def _place(name: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
