"""Published errors on the official data, for comparison."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Published:
    """A published error on the official data, for comparison.

    Args:
        model: Name of the model as for `--model`, or its name in the source if this
            package does not have it.
        relative_l2: Mean relative $L_2$ error over the test split.
        source: The paper, with details of the model and the metric.
    """

    model: str
    relative_l2: float
    source: str


@dataclass(frozen=True)
class _Table:
    """A table of a paper: a row for each model, a column for each benchmark."""

    source: str
    unit: float  # Relative error that 1 in the table stands for.
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[float | None, ...]]
    # Remarks on a model, a column, or both.
    notes: Mapping[str, str] = field(default_factory=dict)

    def figures(self, name: str) -> tuple[Published, ...]:
        """Return the errors for a benchmark; empty if it is not in the table."""
        if name not in _SETS:
            raise ValueError(f"name is {name!r}, expected one of {', '.join(_SETS)}")
        if name not in self.columns:
            return ()
        column = self.columns.index(name)
        return tuple(
            Published(model, round(value * self.unit, 6), self._source(model, name))
            for model, row in self.rows.items()
            if (value := row[column]) is not None
        )

    def _source(self, model: str, name: str) -> str:
        notes = (self.notes.get(key) for key in (model, f"{model} {name}", name))
        return ", ".join([self.source, *(note for note in notes if note)])


_SETS = ("elasticity", "darcy", "airfoil", "pipe", "drivaerml", "lpbf")
_POINTS = {"drivaerml": "40,000 points"}

_FLARE = _Table(
    source="arXiv:2508.12594 v2, mean over samples",
    unit=1e-3,
    columns=_SETS,
    rows={
        "FLARE": (3.38, 5.10, 4.28, 2.85, 60.8, 18.5),
        "Transformer": (5.37, 4.38, 6.28, None, None, None),
        "PerceiverIO": (23.4, 21.5, 162.0, 7.14, 760.0, 56.3),
        "GNOT": (13.3, 16.9, 103.0, 5.89, 115.0, 24.3),
        "LNO": (9.25, 7.64, 17.8, 8.10, 146.0, 24.7),
        "Transolver": (6.40, 18.6, 8.24, 4.87, 70.5, 20.4),
        "TransolverConv": (None, 5.94, 5.50, 3.90, None, None),
    },
    notes={
        **_POINTS,
        "lpbf": "legacy metric",
        "FLARE": "keys and values by deep MLPs, one seed",
    },
)
_LINEAR = "keys and values by one linear map each"
_FLARE_PLUS_PLUS = _Table(
    source="arXiv:2608.11519, 128 channels and 8 heads for all models",
    unit=1e-2,
    columns=_SETS[:5],
    rows={
        "FLAREPP": (0.38, 0.59, 0.52, 0.34, 6.04),
        "FLARE": (0.64, 0.76, 0.57, 0.51, 7.22),
        "Transformer": (0.41, 0.43, 0.58, None, None),
        "PerceiverIO": (2.80, 2.06, 0.77, 0.69, 24.80),
        "Set Transformer": (0.52, 1.25, 0.80, 0.39, 6.20),
        "GNOT": (1.33, 1.69, 10.30, 0.59, 11.50),
        "LNO": (0.93, 0.76, 1.78, 0.81, 14.60),
        "Transolver": (0.72, 1.04, 0.60, 0.38, 7.39),
        "Transolver++": (1.02, 2.76, 1.27, 0.76, 9.39),
        "Transolver-3": (0.68, 1.03, 0.73, 0.44, 7.36),
    },
    notes={**_POINTS, "FLARE": _LINEAR},
)
_TEN_SEEDS = "mean of ten seeds"
_LATER = _Table(
    source="blog post of the FLARE++ authors, 2026-09-25",
    unit=1e-2,
    columns=_SETS[:5],
    rows={
        "FLAREPP": (0.39, 0.62, 0.50, 0.35, 5.80),
        "FLARE": (0.71, 0.76, 0.57, 0.51, 7.22),
        "Transformer": (0.41, 0.43, 0.58, None, None),
        "Set Transformer": (0.57, 1.18, 0.67, 0.39, 6.56),
        "Luna": (0.59, 0.84, 0.60, 0.38, 6.90),
        "Transolver": (0.72, 1.04, 0.60, 0.38, 7.39),
        "Transolver-3": (0.68, 1.03, 0.73, 0.44, 7.36),
    },
    notes={
        **_POINTS,
        "FLARE": _LINEAR,
        "FLARE elasticity": _TEN_SEEDS,
        "FLAREPP elasticity": _TEN_SEEDS,
    },
)


def flare_paper(name: str) -> tuple[Published, ...]:
    """Return the errors in the FLARE paper for a benchmark, that of FLARE first.

    Source: Puri et al., [arXiv:2508.12594](https://arxiv.org/abs/2508.12594) v2, a
    preprint. The values are the mean relative $L_2$ error of the decoded field over the
    test samples. FLARE computes keys and values with deep residual MLPs; one seed.

    Args:
        name: `"elasticity"`, `"darcy"`, `"airfoil"`, `"pipe"`, `"drivaerml"` or
            `"lpbf"`.

    Raises:
        ValueError: If the papers have no such benchmark.
    """
    return _FLARE.figures(name)


def flare_plus_plus_paper(name: str) -> tuple[Published, ...]:
    """Return the errors in the FLARE++ paper for a benchmark, that of FLARE++ first.

    Source: [arXiv:2608.11519](https://arxiv.org/abs/2608.11519), of the same group. All
    models have 128 channels and 8 heads; FLARE has one linear map each for keys and
    values, so its errors differ from those of `flare_paper`.

    Args:
        name: As for `flare_paper`; the paper does not have printed parts.

    Raises:
        ValueError: If the papers have no such benchmark.
    """
    return _FLARE_PLUS_PLUS.figures(name)


def later_figures(name: str) -> tuple[Published, ...]:
    """Return errors that the authors of FLARE++ published after their paper.

    Source: their blog post of 2026-09-25, in single precision. For FLARE and FLARE++ on
    elasticity, they are means over ten seeds.

    Args:
        name: As for `flare_paper`; the post does not have printed parts.

    Raises:
        ValueError: If the papers have no such benchmark.
    """
    return _LATER.figures(name)


def all_published(name: str) -> tuple[Published, ...]:
    """Return the errors from all sources, oldest first; models may occur repeatedly.

    The sources disagree: FLARE on elasticity has 0.338 % in its own paper, with deep
    keys and values and one seed, and 0.64 % and 0.71 % in the later sources, with
    linear ones. The authors' code selects the best checkpoint by its error on the test
    split.

    Args:
        name: As for `flare_paper`.

    Raises:
        ValueError: If the papers have no such benchmark.
    """
    return flare_paper(name) + flare_plus_plus_paper(name) + later_figures(name)
