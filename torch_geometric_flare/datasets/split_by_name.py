"""Splits of samples that depend on the name of each alone."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_SPLITS = ("train", "val", "test")


class NamedSplits(NamedTuple):
    """Which samples are in which split.

    Attributes:
        names: The names of each split, in alphabetical order.
        borrowed: The split of each sample that its name alone would put elsewhere.
    """

    names: dict[str, list[str]]
    borrowed: dict[str, str]


def split_by_name(
    names: Sequence[str],
    fractions: Sequence[float],
    seed: int,
    borrowed: Mapping[str, str],
) -> NamedSplits:
    """Put each sample into a split by the SHA-256 of seed and name.

    The hash is a number from 0 to 1. Below the share of the validation split a sample
    belongs to that, then to the test split, and from the sum of both on to training.

    A split that would be empty borrows from the largest one, and keeps what it has
    borrowed whatever comes later, so that no sample that was held out is trained on.

    Args:
        names: The samples.
        fractions: Shares of training, validation and test.
        seed: The seed.
        borrowed: What was borrowed before, which may be malformed.

    Raises:
        ValueError: If there are fewer samples than splits of a share above zero.
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
    found: dict[str, list[str]] = {split: [] for split in _SPLITS}
    kept = {name: s for name, s in borrowed.items() if s in wanted}
    for name in sorted(names):
        own = next(
            (s for s in ("val", "test") if limits[s][0] <= place[name] < limits[s][1]),
            "train",
        )
        found[kept.get(name, own)].append(name)
    for split in wanted:
        if not found[split]:
            lender = max(wanted, key=lambda other: len(found[other]))
            middle = sum(limits[split]) / 2
            nearest = min(found[lender], key=lambda n: (abs(place[n] - middle), n))
            found[lender].remove(nearest)
            found[split].append(nearest)
            kept[nearest] = split
    return NamedSplits(found, kept)


def _place(name: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
