"""Autoregressive rollout of a surrogate."""

import copy
from collections.abc import Mapping

from torch_geometric.data import Data

from torch_geometric_flare.surrogates.surrogate import Surrogate
from torch_geometric_flare.transforms import feature_key


def rollout(
    surrogate: Surrogate, data: Data, num_steps: int, changes: Mapping[str, str]
) -> list[Data]:
    r"""Advance a state in time by feeding each prediction into the next step.

    The surrogate takes the state as part of its features and predicts the change of
    each over one step, in the same unit:

    $$s_{t + 1} = s_t + f(s_t).$$

    All other fields of `data`, such as coordinates, boundary values or a steady flow,
    stay unchanged. Gradients flow through all steps; for inference call
    `surrogate.eval()` and wrap the call in `torch.no_grad()`.

    The error of one step enters the next, and nothing here keeps it from growing. The
    step size is that of the training data, and the error is known only for as many
    steps as were tested.

    Args:
        surrogate: The surrogate; its features include the state, its fields are the
            changes.
        data: A sample or a batch at the initial time, with each feature under its name
            and without `x`, which is rebuilt in each step.
        num_steps: Number of steps.
        changes: For each feature of the state, the field that is its change, as in
            `{"temperature": "temperature_change"}`.

    Returns:
        The samples or batches after each of the `num_steps` steps; they share all
        unchanged fields.

    Raises:
        ValueError: If `num_steps` is below one; if `changes` is empty, names a feature
            or field that the surrogate does not have, or two with different channels;
            or if `data` has an `x` or lacks a feature.
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
            # A feature of one channel may have shape [N] instead of [N, 1].
            key = feature_key(feature)
            data[key] = data[key] + predicted[change].view_as(data[key])
        states.append(data)
    return states


def check_changes(surrogate: Surrogate, changes: Mapping[str, str]) -> None:
    """Check `changes` against the features and fields of the surrogate.

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
