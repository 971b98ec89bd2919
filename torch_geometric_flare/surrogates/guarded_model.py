"""A model with its normalizers that compares samples with its training samples."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare._arguments import prefixed
from torch_geometric_flare.fields import num_channels
from torch_geometric_flare.nn.pooled_states import (
    pool_states,
    pooled_states,
    why_no_states,
)
from torch_geometric_flare.nn.streaming.stage import recorded_states
from torch_geometric_flare.nn.wrappers import unwrap
from torch_geometric_flare.surrogates.guard import Guard, Verdict
from torch_geometric_flare.surrogates.normalized_model import NormalizedModel


class GuardedModel(NormalizedModel):
    """The part of a `Surrogate` that tells which samples are unlike its training."""

    @torch.no_grad()
    def predict_with_summary(self, data: Data | Tensor) -> tuple[Tensor, Tensor]:
        """Return the results of `predict` and `summary` in one pass over the points.

        Args:
            data: A sample, a batch of samples, or the positions of one sample.

        Raises:
            ValueError: As `summary`.
        """
        with recorded_states() as states:
            predicted = self.predict(data)
        network: Any = unwrap(self.model)
        if why_no_states(network) is not None or len(states) != len(network.blocks):
            return predicted, self.summary(data)  # compiled, or an error
        rows = pool_states(network, states)
        if isinstance(data, Tensor) or "u" not in data:
            return predicted, rows
        u = self.model_arguments(data).get("u")
        return predicted, self._add_conditions(rows, u)

    @torch.no_grad()
    def summary(self, data: Data | Tensor) -> Tensor:
        """Return the input of the guard: pooled states and encoded conditions.

        Args:
            data: A sample, a batch of samples, or the positions of one sample.

        Returns:
            $[B, S]$, one row per sample; see `nn.pooled_states`.

        Raises:
            ValueError: If the blocks of the model have no states, or as `forward`.
        """
        self.eval()
        arguments = self.model_arguments(data)
        names = ("batch", "batch_size", "weight", "u")
        options = {name: arguments[name] for name in names if name in arguments}
        network: Any = unwrap(self.model)
        rows = pooled_states(network, arguments["x"], **options)
        return self._add_conditions(rows, arguments.get("u"))

    def _add_conditions(self, rows: Tensor, u: Tensor | None) -> Tensor:
        """Return rows of states followed by the encoded conditions of samples."""
        if u is None:
            return rows
        of_samples = u[:, : u.size(1) - self.own_conditions]
        return torch.cat([rows, of_samples.to(rows.dtype)], dim=1)

    def fit_guard(
        self,
        train: Sequence[Data],
        held_out: Sequence[Data] | None = None,
        names: Sequence[str] | None = None,
    ) -> Guard:
        """Store the training samples' states to detect samples that are unlike them.

        Sets `guard`, which `judge` and `predict_mesh` use to compare a sample with the
        training samples. It is saved in checkpoints and does not change predictions.

        Args:
            train: Samples that the model was trained on, at least 5.
            held_out: Samples of the same kind that it was not trained on, for the two
                thresholds; both need at least 99. Without them each training sample is
                compared with the others, which gives thresholds that are too low.
            names: Names of the training samples; their numbers by default.

        Returns:
            The guard.

        Raises:
            ValueError: If the blocks of the model have no states, there are too few
                samples, or a state is not finite.
        """
        device = self.target_normalizer.shift.device

        def rows(samples: Sequence[Data], split: str) -> Tensor:
            parts = []
            for number, sample in enumerate(samples):
                with prefixed(f"sample {number} of {split}"):
                    parts.append(self.summary(copy.copy(sample).to(device)).cpu())
            return torch.cat(parts) if parts else torch.empty(0, 0)

        self.guard = Guard.fit(
            rows(train, "train"),
            None if held_out is None else rows(held_out, "held_out"),
            names,
            num_channels(self.conditions),
        )
        return self.guard

    def judge(self, data: Data | Tensor) -> Verdict:
        """Return whether a sample is like the training samples.

        Args:
            data: One sample, or its positions.

        Raises:
            ValueError: If there is no guard, or as `forward`.
        """
        if self.guard is None:
            raise ValueError("the surrogate has no guard: make one by fit_guard")
        return self.guard.judge(
            self.summary(data), self.conditions, self.condition_normalizer
        )
