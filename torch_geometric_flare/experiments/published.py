"""Figures of papers, to stand beside our own on the official data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A figure of a paper, to stand beside our own on the official data.

    Args:
        model: Name of the model, as `--model` takes it.
        relative_l2: Mean relative $L_2$ error over the test split.
        source: The paper, and which of its models and metrics.
    """

    model: str
    relative_l2: float
    source: str


_SETS = ("elasticity", "darcy", "airfoil", "pipe", "drivaerml", "lpbf")
# Relative errors times 1,000.
_TABLE: dict[str, tuple[float | None, ...]] = {
    "FLARE": (3.38, 5.10, 4.28, 2.85, 60.8, 18.5),
    "Transformer": (5.37, 4.38, 6.28, None, None, None),
    "PerceiverIO": (23.4, 21.5, 162.0, 7.14, 760.0, 56.3),
    "GNOT": (13.3, 16.9, 103.0, 5.89, 115.0, 24.3),
    "LNO": (9.25, 7.64, 17.8, 8.10, 146.0, 24.7),
    "Transolver": (6.40, 18.6, 8.24, 4.87, 70.5, 20.4),
    "TransolverConv": (None, 5.94, 5.50, 3.90, None, None),
}
_NOTES = {"drivaerml": ", 40,000 points", "lpbf": ", legacy metric"}


def flare_paper(name: str) -> tuple[Published, ...]:
    """Return the figures of the FLARE paper for a benchmark, FLARE's own first.

    Source: Puri et al., [arXiv:2508.12594](https://arxiv.org/abs/2508.12594) v2. Mean
    over the test samples of the relative $L_2$ error of the decoded field.

    Args:
        name: `"elasticity"`, `"darcy"`, `"airfoil"`, `"pipe"`, `"drivaerml"` or
            `"lpbf"`.

    Raises:
        ValueError: If the paper has no such benchmark.
    """
    if name not in _SETS:
        raise ValueError(f"name is {name!r}, expected one of {', '.join(_SETS)}")
    source = f"arXiv:2508.12594 v2, mean over samples{_NOTES.get(name, '')}"
    column = _SETS.index(name)
    return tuple(
        Published(model, round(value / 1000, 6), source)
        for model, row in _TABLE.items()
        if (value := row[column]) is not None
    )
