"""What a processed split of a verified data set holds."""

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from torch_geometric_flare.datasets.records import Fingerprint, read_json, write_json

_AGAIN = "pass force_reload=True to process it again."


@dataclass(frozen=True)
class Manifest:
    r"""The file that names the samples of a split, written when all are processed.

    Args:
        path: The file.
        pre_transform: Description of the `pre_transform` that the user asks for;
            `None` if there is none.
        fields: Names of the targets that the user asks for.
    """

    path: Path
    pre_transform: str | None
    fields: list[str]

    def write(self, samples: dict[str, Fingerprint]) -> None:
        """Write what was processed.

        Args:
            samples: Fingerprint and `num_points` of each sample, by name.
        """
        write_json(
            self.path,
            {
                "pre_transform": self.pre_transform,
                "fields": self.fields,
                "samples": samples,
            },
        )

    def read(self, names: list[str]) -> tuple[dict[str, Fingerprint], bool]:
        """Read what was processed, and compare it with what is asked for.

        Another `pre_transform` than asked for gives a `UserWarning`.

        Args:
            names: The samples that are there now.

        Returns:
            Fingerprint and `num_points` of each sample by name, and whether the
            results of a `pre_transform` are stored.

        Raises:
            ValueError: If the manifest is malformed, names other samples, or stored
                results are of other fields.
        """
        content = read_json(self.path)
        samples, described = content.get("samples"), content.get("pre_transform")
        if not isinstance(samples, dict) or set(samples) != set(names):
            raise ValueError(
                f"'{self.path.parent}' was processed from other samples than there "
                f"are now: {_difference(set(names), samples)}. Delete '{self.path}' to "
                "process those that are there now."
            )
        for name, entry in samples.items():
            size = entry.get("num_points") if isinstance(entry, dict) else None
            if not isinstance(size, int):
                raise ValueError(
                    f"'{self.path}' has a damaged entry for {name!r}; {_AGAIN}"
                )
        if described is not None and content.get("fields") != self.fields:
            raise ValueError(
                f"'{self.path.parent}' holds what pre_transform made for fields="
                f"{content.get('fields')}, not for {self.fields}; {_AGAIN}"
            )
        if described != self.pre_transform:
            warnings.warn(
                f"'{self.path.parent}' was processed with pre_transform={described}, "
                f"not with pre_transform={self.pre_transform}, and is used as it is. "
                "Pass force_reload=True to process it again.",
                stacklevel=_level_of_caller(),
            )
        return samples, described is not None


def _difference(names: set[str], samples: object) -> str:
    """Return how many samples came and went, with one name each."""
    before = set(samples) if isinstance(samples, dict) else set()
    parts = [
        f"{len(some)} {what}, such as {min(some)!r}"
        for some, what in ((names - before, "new"), (before - names, "gone"))
        if some
    ]
    return " and ".join(parts)


def _level_of_caller() -> int:
    """Return the `stacklevel`, for the calling function, of the code outside PyG."""
    level = 1
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_pyg(frame):
        frame = frame.f_back
        level += 1
    return level


def _is_pyg(frame: FrameType) -> bool:
    # The prefix is that of PyTorch Geometric and of this package.
    return str(frame.f_globals.get("__name__")).startswith("torch_geometric")
