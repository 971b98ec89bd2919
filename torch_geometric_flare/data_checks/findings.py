"""Findings of data checks and the report of all checks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SEVERITIES = ("error", "warning")
"""Severities of a finding, the worst first."""

_MOST_PLACES = 500


@dataclass(frozen=True)
class Finding:
    """An error, or a possible one.

    Args:
        mesh: Name of the mesh; empty for a finding about all of them.
        what: The check that found it, a key of `CHECKS`.
        severity: One of `SEVERITIES`.
        detail: Details with numbers.
        remedy: What to do about it.
        places: Coordinates of some locations, $[K, 3]$; may be empty.

    Raises:
        ValueError: If `severity` is invalid.
    """

    mesh: str
    what: str
    severity: str
    detail: str
    remedy: str
    places: npt.NDArray[Any] = field(
        default_factory=lambda: np.empty((0, 3)), compare=False, repr=False
    )

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(
                f"severity is {self.severity!r}, expected one of {SEVERITIES}"
            )
        # A subset for a picture.
        step = max(1, len(self.places) // _MOST_PLACES)
        object.__setattr__(self, "places", np.asarray(self.places)[::step])


@dataclass(frozen=True)
class FieldStatistics:
    r"""Statistics of an array over the points or cells of one or of many meshes.

    Sums are in double precision: in single precision a sum of ones stops at $2^{24}$.

    Attributes:
        count: Number of values that are finite in all channels.
        gaps: Number of values that are not finite.
        mean: Mean of each channel, $[C]$.
        squares: Sum of the squared differences from the mean, $[C]$.
        low: Minimum of each channel, $[C]$.
        high: Maximum of each channel, $[C]$.
    """

    count: int
    gaps: int
    mean: npt.NDArray[np.float64]
    squares: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]

    @classmethod
    def of(cls, values: npt.NDArray[Any]) -> "FieldStatistics":
        """Return the statistics of an array $[N, C]$ of numbers."""
        finite = np.isfinite(values).all(axis=1)
        count, channels = int(finite.sum()), values.shape[1]
        if count == 0:
            zeros, none = np.zeros(channels), np.full(channels, np.nan)
            return cls(0, len(values), zeros, zeros, none, none)
        values = values[finite].astype(np.float64)
        mean = values.mean(axis=0)
        squares = np.square(values - mean).sum(axis=0)
        gaps = len(finite) - count
        return cls(count, gaps, mean, squares, values.min(axis=0), values.max(axis=0))

    def merge(self, other: "FieldStatistics") -> "FieldStatistics":
        """Return the combined statistics of both."""
        count, gaps = self.count + other.count, self.gaps + other.gaps
        share = other.count / max(count, 1)
        step = other.mean - self.mean
        squares = self.squares + other.squares + step**2 * self.count * share
        return FieldStatistics(
            count,
            gaps,
            self.mean + step * share,
            squares,
            np.fmin(self.low, other.low),
            np.fmax(self.high, other.high),
        )

    @property
    def deviation(self) -> npt.NDArray[np.float64]:
        """Standard deviation of each channel, $[C]$."""
        deviation: npt.NDArray[np.float64] = np.sqrt(self.squares / max(self.count, 1))
        return deviation


@dataclass(frozen=True)
class CheckReport:
    """Results of the checks of a set of meshes.

    Attributes:
        findings: Findings, the worst first.
        splits: The file of each mesh by its name, split by split.
        statistics: Statistics of each array over all meshes, by location and name.
    """

    findings: Sequence[Finding]
    splits: Mapping[str, Mapping[str, Path]]
    statistics: Mapping[tuple[str, str], FieldStatistics]

    @property
    def exit_status(self) -> int:
        """0 without errors, 1 with errors; warnings are ignored."""
        return int(any(finding.severity == "error" for finding in self.findings))

    def summary(self) -> str:
        """Return a sentence with the numbers of meshes, errors and warnings."""
        numbers = [
            f"{sum(f.severity == severity for f in self.findings)} {severity}s"
            for severity in SEVERITIES
        ]
        sizes = {split: len(files) for split, files in self.splits.items() if files}
        splits = ", ".join(f"{number} {split}" for split, number in sizes.items())
        return f"{sum(sizes.values())} meshes ({splits}): {', '.join(numbers)}"

    def only(self, severity: str) -> "CheckReport":
        """Return the report of the findings of one severity."""
        kept = tuple(f for f in self.findings if f.severity == severity)
        return replace(self, findings=kept, statistics={})

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Return the table of the findings: headings, and the cells of each row."""
        rows = [
            [f.severity, f.what, f.mesh or "all", f.detail, f.remedy]
            for f in self.findings
        ]
        return ["severity", "check", "mesh", "found", "remedy"], rows

    def statistics_cells(self) -> tuple[list[str], list[list[str]]]:
        """Return the table of the statistics: headings, and the cells of each row."""
        rows = []
        for (location, name), statistics in self.statistics.items():
            for channel in range(len(statistics.mean)):
                label = name if len(statistics.mean) == 1 else f"{name}[{channel}]"
                numbers = (
                    statistics.mean,
                    statistics.deviation,
                    statistics.low,
                    statistics.high,
                )
                cells = [f"{values[channel]:.6g}" for values in numbers]
                rows.append([location, label, f"{statistics.count:,}", *cells])
        headings = ["at", "array", "values", "mean", "deviation", "least", "largest"]
        return headings, rows

    def __str__(self) -> str:
        tables = []
        if self.statistics:
            tables.append(aligned(*self.statistics_cells()))
        headings, rows = self.cells()
        if rows:
            joined = [[*row[:3], f"{row[3]}. Remedy: {row[4]}"] for row in rows]
            tables.append(aligned(headings[:4], joined))
        return "\n\n".join([*tables, self.summary()])


def aligned(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table for a terminal."""
    lines = [headings, *rows]
    widths = [max(len(line[k]) for line in lines) for k in range(len(headings))]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
