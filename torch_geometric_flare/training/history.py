"""Reading the log of a training."""

import csv
import math
from pathlib import Path


def read_history(folder: str | Path) -> dict[str, list[float]]:
    """Read the logged errors of each epoch.

    Args:
        folder: The folder of the training. Where an epoch was logged twice, because the
            training was killed in between, the resumed one counts.

    Returns:
        `epoch` and the logged names, such as `train_relative_l2`, each with one value
        per epoch in ascending order; NaN where an epoch was not measured.

    Raises:
        FileNotFoundError: If `folder` holds no log.
    """
    logs = sorted(
        Path(folder).expanduser().glob("metrics/version_*/metrics.csv"),
        key=lambda path: int(path.parent.name.removeprefix("version_")),
    )
    if not logs:
        raise FileNotFoundError(
            f"folder={str(folder)!r} holds no metrics/version_*/metrics.csv: pass the "
            "folder that was given to fit"
        )
    epochs: dict[int, dict[str, float]] = {}
    for log in logs:
        with log.open(newline="") as file:
            for row in csv.DictReader(file):
                values = {
                    name: float(value)
                    for name, value in row.items()
                    if value and name not in ("epoch", "step")
                }
                epochs.setdefault(int(row["epoch"]), {}).update(values)
    names = sorted({name for values in epochs.values() for name in values})
    return {
        "epoch": [float(epoch) for epoch in sorted(epochs)],
        **{
            name: [epochs[epoch].get(name, math.nan) for epoch in sorted(epochs)]
            for name in names
        },
    }
