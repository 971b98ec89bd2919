"""A training of so many seconds."""

import copy
import json
import tempfile
from dataclasses import replace
from pathlib import Path

from torch_geometric_flare import training
from torch_geometric_flare.experiments.step_timer import StepTimer

_TRIAL_STEPS = 10
_NOTE = "time_budget.json"


def steps_within(
    seconds: float,
    module: training.SurrogateModule,
    data: training.SurrogateDataModule,
    folder: Path,
    *,
    accelerator: str,
    precision: str,
) -> int:
    """Return how many steps a training makes in a time on this machine.

    Ten steps of a copy of the module tell. The number is noted in the folder of the
    training, so that a resumed one keeps it, and with it the schedule.

    Args:
        seconds: The time; positive.
        module: The training; left as it is.
        data: The splits.
        folder: The folder of the training.
        accelerator: As for `training.fit`.
        precision: As for `training.fit`.

    Returns:
        Steps, at least one.

    Raises:
        ValueError: If `seconds` is not positive.
    """
    if not seconds > 0:
        raise ValueError(f"seconds must be positive, got {seconds}")
    note = folder / _NOTE
    if note.exists():
        steps: int = json.loads(note.read_text())["steps"]
        return steps
    trial = copy.deepcopy(module)
    trial.recipe = replace(module.recipe, epochs=_TRIAL_STEPS, max_steps=_TRIAL_STEPS)
    timer = StepTimer()
    with tempfile.TemporaryDirectory() as temporary:
        training.fit(
            trial,
            data,
            temporary,
            accelerator=accelerator,
            precision=precision,
            progress=False,
            callbacks=[timer],
        )
    steps = max(1, round(seconds / timer.seconds_per_step))
    folder.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps({"seconds": seconds, "steps": steps}) + "\n")
    return steps
