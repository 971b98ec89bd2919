"""Prediction step after step."""

import copy
from collections.abc import Mapping

from torch_geometric.data import Data

from torch_geometric_flare.surrogates.surrogate import Surrogate
from torch_geometric_flare.transforms import feature_key


def rollout(
    surrogate: Surrogate, data: Data, num_steps: int, changes: Mapping[str, str]
) -> list[Data]:
    r"""Advance a state in time: each prediction is the input of the next.

    The surrogate sees the state among its features and predicts the change of each over
    one step, in the same unit:

    $$s_{t + 1} = s_t + f(s_t).$$

    All other fields of `data`, such as coordinates, boundary values or a steady flow,
    stay as they are. Gradients flow through all steps; for a prediction call
    `surrogate.eval()` and wrap the call in `torch.no_grad()`.

    An error of one step is an input of the next, and nothing here keeps it from
    growing. The step is that of the training data, and the error is known only for as
    many steps as were tested.

    Args:
        surrogate: Its features hold the state, its fields the changes.
        data: A sample or a batch at the first time, with each feature under its name
            and without `x`, which is made anew for each step.
        num_steps: Number of steps.
        changes: The field that is the change of each feature of the state, as in
            `{"temperature": "temperature_change"}`.

    Returns:
        The sample or batch after each step, `num_steps` of them; they share what does
        not change.

    Raises:
        ValueError: If `num_steps` is below one; if `changes` is empty, names a feature
            or field that the surrogate does not have, or one of other channels; or if
            `data` has an `x` or lacks a feature.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    check_changes(surrogate, changes)
    if data.get("x") is not None:
        raise ValueError(
            "data has x, which holds the state of one time: delete it, so that it is "
            "made anew of pos and the features"
        )
    states = []
    for _ in range(num_steps):
        predicted = surrogate.split(surrogate(data))
        data = copy.copy(data)
        for feature, change in changes.items():
            # A feature of one channel may be a vector of numbers.
            key = feature_key(feature)
            data[key] = data[key] + predicted[change].view_as(data[key])
        states.append(data)
    return states


def check_changes(surrogate: Surrogate, changes: Mapping[str, str]) -> None:
    """Compare the state with what the surrogate takes and predicts.

    Raises:
        ValueError: As `rollout`.
    """
    if not changes:
        raise ValueError("changes is empty: name the field that changes each feature")
    features = {field.name: field for field in surrogate.features}
    fields = {field.name: field for field in surrogate.fields}
    for feature, change in changes.items():
        if feature not in features or change not in fields:
            raise ValueError(
                f"changes has {feature!r}: {change!r}, but the surrogate has the "
                f"features {list(features)} and the fields {list(fields)}"
            )
        if features[feature].channels != fields[change].channels:
            raise ValueError(
                f"{feature!r} has {features[feature].channels} channels and its change "
                f"{change!r} has {fields[change].channels}: they must be equal"
            )
