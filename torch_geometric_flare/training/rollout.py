"""Training and errors over several time steps."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_flare._arguments import prefixed
from torch_geometric_flare.fields import Field, Fields, channel_slices, num_channels
from torch_geometric_flare.metrics import relative_l2_per_field
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.surrogates import Surrogate, rollout
from torch_geometric_flare.surrogates.rollout import check_changes
from torch_geometric_flare.training.errors import graphs_of, mean_over_fields
from torch_geometric_flare.training.evaluation import host_batches
from torch_geometric_flare.training.flags import name_samples
from torch_geometric_flare.training.module import SurrogateModule, refuse_derivatives
from torch_geometric_flare.training.run_folder import check_same
from torch_geometric_flare.transforms import Normalizer, feature_key


class RolloutModule(SurrogateModule):
    r"""Trains a surrogate of the change per time step over several successive steps.

    A sample has a state among its features and the $K$ following states in `y`, as from
    `transforms.TimeWindow`. The surrogate is applied $K$ times, each time to its
    preceding result (`surrogates.rollout`), and the loss is the mean over steps, fields
    and samples of `metrics.relative_l2` of the states. Gradients flow through all
    steps, so that the surrogate learns the effect of its errors. Memory and time grow
    with $K$.

    In training, Gaussian noise is added to the first state but not to the true states,
    as in "Learning Mesh-Based Simulation with Graph Networks"
    (https://arxiv.org/abs/2010.03409): the surrogate learns to correct slightly wrong
    states, such as its own predictions.

    `measure` returns `loss`, `relative_l2` (the mean over the steps) and
    `relative_l2_last`, the error of the last step, which are logged in training,
    validation and test. Windows of validation and test may be longer than those of the
    training.

    Args:
        model: The network, which predicts all changes.
        target_normalizer: Decodes changes.
        coordinate_normalizer: Encodes positions.
        recipe: The hyperparameters, without `derivative_weight`.
        training_data: Description of the training data.
        changes: For each feature of the state, the field that is its change, see
            `surrogates.rollout`. The states in `y` have the features in this order.
        noise: Standard deviation of the noise in units of the scale of
            `target_normalizer`; 1 is about the change of the state in a step.
        fields: Names and units of the changes.
        features: Names and units of the state and of other inputs.
        input_normalizer: Encodes all channels of `x`.
        conditions: Names and units of the columns of `u`.
        condition_normalizer: Encodes `u`.

    Raises:
        ValueError: If `changes` does not fit the surrogate, a field is not a change,
            `noise` is negative or not finite, the recipe has a `derivative_weight`, or
            an argument is invalid for `SurrogateModule`.
    """

    def __init__(
        self,
        model: nn.Module,
        target_normalizer: Normalizer,
        coordinate_normalizer: Normalizer | None = None,
        recipe: Recipe | None = None,
        training_data: str | None = None,
        *,
        changes: Mapping[str, str],
        noise: float = 0.0,
        fields: Iterable[Field],
        features: Iterable[Field],
        input_normalizer: Normalizer | None = None,
        location: str | None = None,
        conditions: Iterable[Field] = (),
        condition_normalizer: Normalizer | None = None,
    ) -> None:
        super().__init__(
            model,
            target_normalizer,
            coordinate_normalizer,
            recipe,
            training_data,
            fields=fields,
            features=features,
            input_normalizer=input_normalizer,
            location=location,
            conditions=conditions,
            condition_normalizer=condition_normalizer,
        )
        self.state = _state(self.surrogate, changes)
        if not 0 <= noise < float("inf"):
            raise ValueError(f"noise must be finite and nonnegative, got {noise}")
        refuse_derivatives(self.recipe, "the loss of a rollout has no derivatives")
        self.changes = dict(changes)
        self.noise = noise

    @classmethod
    def _add_stored(
        cls, arguments: dict[str, Any], checkpoint: dict[str, Any], path: str | Path
    ) -> dict[str, Any]:
        """Add `changes` and `noise` of the checkpoint."""
        arguments = {**checkpoint.get("rollout", {}), **arguments}
        if "changes" not in arguments:
            raise ValueError(f"'{path}' is not of a RolloutModule: pass changes=")
        return arguments

    def forward(self, data: Data) -> Tensor:
        """Predict the states in `data.y` one after the other, $[N, K C]$.

        In training mode, noise is added to the first state.

        Raises:
            ValueError: If `data` has no `y` of complete states, or is invalid for
                `surrogates.rollout`.
        """
        if self.training and self.noise:
            data = self._with_noise(data)
        return _predict(self.surrogate, data, self.changes, self.state)

    def loss(self, prediction: Tensor, data: Data) -> Tensor:
        """Return the mean relative error of steps, fields and samples.

        Args:
            prediction: The predicted states.
            data: The batch, with the true states as `y`.

        Shapes:
            - `prediction`: $[N, K C]$

        Returns:
            A scalar.
        """
        loss: Tensor = self._errors(prediction, data).mean()
        return loss

    def measure(self, prediction: Tensor, data: Data) -> dict[str, Tensor]:
        """Return the loss and the other metrics that all stages log.

        Args:
            prediction: The predicted states.
            data: The batch, with the true states as `y`.

        Shapes:
            - `prediction`: $[N, K C]$

        Returns:
            The scalars `loss`, `relative_l2` and `relative_l2_last`.
        """
        with self._share_errors(prediction, data) as errors:
            loss = self.loss(prediction, data)
        errors = errors.detach()
        return {
            "loss": loss,
            "relative_l2": errors.mean(),
            "relative_l2_last": errors[:, -1].mean(),
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the options that must not change when a training resumes."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["rollout"] = {"changes": self.changes, "noise": self.noise}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint is of this training.

        Raises:
            ValueError: See `SurrogateModule`; also if `changes` or `noise` differ.
        """
        super().on_load_checkpoint(checkpoint)
        current = {"changes": self.changes, "noise": self.noise}
        check_same(checkpoint.get("rollout"), current, "rollout")

    def _compute_errors(self, prediction: Tensor, data: Data) -> Tensor:
        """Return the errors of each sample after each step, [B, K]."""
        scale = _state_scale(self.surrogate, self.changes)
        return _errors(prediction, data, self.state, scale)

    def _with_noise(self, data: Data) -> Data:
        scale = self.surrogate.target_normalizer.scale
        columns = channel_slices(self.surrogate.fields)
        noisy = copy.copy(data)
        for feature, change in self.changes.items():
            key = feature_key(feature)
            value = data[key]
            deviation = self.noise * scale[columns[change]]
            noise = deviation.to(value.dtype) * torch.randn(
                len(value), deviation.numel(), device=value.device
            )
            noisy[key] = value + noise.view_as(value)
        return noisy


def evaluate_rollout(
    surrogate: Surrogate,
    dataset: Sequence[Data],
    changes: Mapping[str, str],
    batch_size: int = 1,
) -> Tensor:
    """Return the relative error of each sample after each step.

    Args:
        surrogate: A trained surrogate of changes.
        dataset: Samples with a first state as features and the following states as `y`,
            the same number for all samples, as from `transforms.TimeWindow`.
        changes: For each feature of the state, the field that is its change, see
            `surrogates.rollout`.
        batch_size: Number of samples per prediction.

    Returns:
        Relative $L_2$ errors of the states, means over the fields, $[S, K]$ for $S$
        samples and $K$ steps, on the CPU.

    Raises:
        ValueError: If `dataset` is empty, a field is missing, or `changes` does not fit
            the surrogate.
    """
    if len(dataset) == 0:
        raise ValueError("dataset is empty: pass at least one sample")
    state = _state(surrogate, changes)
    device = surrogate.target_normalizer.shift.device
    surrogate.eval()
    scale = _state_scale(surrogate, changes)
    errors: list[Tensor] = []
    first = 0  # index of the batch's first sample in the data set
    with torch.no_grad():
        for batch in host_batches(dataset, batch_size):
            batch = batch.to(device)
            number = graphs_of(batch)[1]
            with prefixed(name_samples(range(first, first + number))):
                prediction = _predict(surrogate, batch, changes, state)
                errors.append(_errors(prediction, batch, state, scale).cpu())
            first += number
    return torch.cat(errors)


def _state(surrogate: Surrogate, changes: Mapping[str, str]) -> Fields:
    """Return the features that change, in the order of the columns of a state."""
    check_changes(surrogate, changes)
    unused = {field.name for field in surrogate.fields} - set(changes.values())
    if unused:
        raise ValueError(
            f"the fields {sorted(unused)} do not change a feature: add them to "
            "changes, or omit them"
        )
    features = {field.name: field for field in surrogate.features}
    return tuple(features[name] for name in changes)


def _predict(
    surrogate: Surrogate, data: Data, changes: Mapping[str, str], state: Fields
) -> Tensor:
    """Predict the number of states in `data.y`, [N, K * C]."""
    states = rollout(surrogate, data, _num_steps(data, state), changes)
    parts = [
        after[feature_key(field.name)].reshape(-1, field.channels)
        for after in states
        for field in state
    ]
    return torch.cat(parts, dim=1)


def _state_scale(surrogate: Surrogate, changes: Mapping[str, str]) -> Tensor:
    """Return the scale of each column of a state, or else of its change.

    The absolute error of a state that is zero everywhere is in this unit.
    """
    normalizer = surrogate.input_normalizer
    if normalizer is None:
        columns = channel_slices(surrogate.fields)
        scale = surrogate.target_normalizer.scale
        return torch.cat([scale[columns[change]] for change in changes.values()])
    columns = channel_slices(surrogate.features)
    features = normalizer.scale[-num_channels(surrogate.features) :]
    return torch.cat([features[columns[feature]] for feature in changes])


def _errors(prediction: Tensor, data: Data, state: Fields, scale: Tensor) -> Tensor:
    """Return the errors of the samples after each step, [B, K]."""
    channels = num_channels(state)
    graphs = graphs_of(data)
    errors = []
    for step in range(_num_steps(data, state)):
        columns = slice(step * channels, (step + 1) * channels)
        per_field = relative_l2_per_field(
            prediction[:, columns],
            data.y[:, columns],
            state,
            *graphs,
            group=data.get("group"),
            zero_scale=scale,
        )
        errors.append(mean_over_fields(per_field))
    return torch.stack(errors, dim=1)


def _num_steps(data: Data, state: Fields) -> int:
    channels = num_channels(state)
    y = data.get("y")
    if y is None or y.dim() != 2 or y.size(1) < channels or y.size(1) % channels:
        shape = None if y is None else tuple(y.shape)
        raise ValueError(
            f"data has y of shape {shape}, expected the states following the first, "
            f"[N, K * {channels}]: see transforms.TimeWindow"
        )
    return int(y.size(1)) // channels
