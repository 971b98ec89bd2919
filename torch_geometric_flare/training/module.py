"""The Lightning module that trains a surrogate."""

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from operator import is_
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch_geometric.data import Data
from typing_extensions import Self

from torch_geometric_flare._arguments import check_kind, expand_path
from torch_geometric_flare._finite import TARGETS
from torch_geometric_flare.fields import Field
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.surrogates import (
    GenerativeSurrogate,
    QueryPoints,
    QuerySurrogate,
    Surrogate,
    load_surrogate,
    unwrap,
)
from torch_geometric_flare.surrogates.checkpoint import read_checkpoint
from torch_geometric_flare.surrogates.description import describe_surrogate
from torch_geometric_flare.training.errors import (
    derivative_errors,
    graphs_of,
    mean_over_fields,
    streams,
    surrogate_errors,
    zero_fields,
)
from torch_geometric_flare.training.flags import (
    describe_batch_gaps,
    is_repeated,
    name_samples,
    numbers_of,
    warn_absolute,
    warn_offsets,
)
from torch_geometric_flare.training.growth import GrowLatents
from torch_geometric_flare.training.optimizer import build_optimizer
from torch_geometric_flare.training.run_folder import check_same
from torch_geometric_flare.training.schedule import (
    build_schedule,
    continue_schedule,
    count_steps,
)
from torch_geometric_flare.transforms import Normalizer

# Entries that must not change on resume, and their names in messages.
_DESCRIBED = {
    "model": "model",
    "arguments": "model",
    "recipe": "recipe",
    "training_data": "training_data",
    "fields": "fields",
    "features": "features",
    "conditions": "conditions",
    "fourier_octaves": "recipe",
    "weighted": "weighted",
    "query": "query",
    "noise_length": "noise_length",
}


class SurrogateModule(LightningModule):
    """Trains a surrogate on the relative errors of its decoded fields.

    The loss is `metrics.relative_l2` of prediction and target in physical units,
    averaged over samples and then over fields: all fields have equal weight,
    independent of their units. If a field is zero at every point of a sample, the error
    is absolute, in units of the scale of `target_normalizer`, and a warning names the
    sample. With weight averaging, validation and test use the averaged weights.

    All stages log the epoch means of the output of `measure`: `train_loss`, `val_loss`
    and `test_loss`, and likewise `relative_l2`; with several fields also that of each,
    such as `train_relative_l2_pressure`. Override `measure` for other targets or
    metrics, such as labels; override `loss`, which it calls, to minimize another loss
    and log the same errors.

    Args:
        model: The network, whose forward names the fields of `Data` that it needs.
        target_normalizer: Decodes the network's output.
        coordinate_normalizer: Encodes positions, for samples without `x`.
        recipe: The hyperparameters; by default the defaults of `Recipe`.
        training_data: Description of the training data, so that predictions can say
            whether the data were simulated.
        fields: Names and units of the columns of `y`; `None` for one field called
            `field`.
        features: Names and units of the columns of `x` after the coordinates.
        input_normalizer: Encodes all channels of `x`.
        location: Where on a mesh the samples lie.
        weighted: Whether points are weighted by the `weight` of their sample.
        surface: Whether all samples lie on surfaces in space, see `Surrogate`.
        conditions: Names and units of the columns of `u`.
        condition_normalizer: Encodes `u`.
        feature_bounds: Minimum and maximum of each channel of `features` over the
            training split, see `transforms.channel_bounds`.
        condition_bounds: The same for each channel of `conditions`.
        query: Names, units and normalizers of query points, for a model such as
            `nn.FLAREQuery`: the surrogate is then a `surrogates.QuerySurrogate`, and
            the errors of the fields at query points enter the loss like the others,
            with the prefix `query_` in their names.

    All arguments except the recipe are as for `surrogates.Surrogate` and are saved in
    the checkpoint.

    Raises:
        ValueError: If `model` is not of the recipe's class, or the surrogate rejects an
            argument.
    """

    _draws: bool = False
    """Whether the surrogate is a `GenerativeSurrogate`."""

    _may_have_gaps: tuple[str, ...] = TARGETS
    """Arrays whose points that are not finite are left out of validation and test."""

    def __init__(
        self,
        model: nn.Module,
        target_normalizer: Normalizer,
        coordinate_normalizer: Normalizer | None = None,
        recipe: Recipe | None = None,
        training_data: str | None = None,
        *,
        fields: Iterable[Field] | None = None,
        features: Iterable[Field] = (),
        input_normalizer: Normalizer | None = None,
        location: str | None = None,
        weighted: bool = False,
        surface: bool = False,
        conditions: Iterable[Field] = (),
        condition_normalizer: Normalizer | None = None,
        feature_bounds: tuple[Sequence[float], Sequence[float]] | None = None,
        condition_bounds: tuple[Sequence[float], Sequence[float]] | None = None,
        query: QueryPoints | None = None,
    ) -> None:
        super().__init__()
        check_kind(nn.Module, "a torch.nn.Module", model=model)
        check_kind((Recipe, NoneType), "a recipes.Recipe or None", recipe=recipe)
        if recipe is None:
            recipe = Recipe(model_class=type(unwrap(model)))
        if not isinstance(unwrap(model), recipe.model_class):
            raise ValueError(
                f"model is a {type(unwrap(model)).__name__}, but the recipe is for "
                f"{recipe.model_class.__name__}: build the model by "
                "recipe.build(in_channels, out_channels)"
            )
        if query is not None:
            refuse_derivatives(recipe, "query points lie on no grid")
        kind = self._surrogate_class()
        if query is not None:
            kind = partial(QuerySurrogate, query=query)
        self.surrogate: Surrogate = kind(
            model,
            target_normalizer,
            coordinate_normalizer,
            training_data,
            fields=fields,
            features=features,
            input_normalizer=input_normalizer,
            location=location,
            fourier_octaves=recipe.fourier_octaves,
            weighted=weighted,
            surface=surface,
            conditions=conditions,
            condition_normalizer=condition_normalizer,
            feature_bounds=feature_bounds,
            condition_bounds=condition_bounds,
        )
        for points in (self.surrogate, query):
            if points is not None:
                warn_offsets(points.fields, points.target_normalizer)
        self.recipe = recipe
        self._flagged: set[tuple[str, str]] = set()  # stages and fields warned about
        self._counted = 0  # samples of the batch with a target
        self._resumed_steps: int | None = None  # of the schedule of a checkpoint
        # A prediction, its data and targets, and its errors.
        self._shared: tuple[Tensor, Data, Tensor, Any] | None = None

    @property
    def learning_rate(self) -> float:
        """The recipe's learning rate; Lightning's `Tuner.lr_find` sets it."""
        return self.recipe.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self.recipe = replace(self.recipe, learning_rate=value)

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls,
        checkpoint_path: str | Path,
        model: nn.Module | None = None,
        **arguments: Any,
    ) -> Self:
        """Return a module with the weights, normalizers and recipe of a checkpoint.

        Use it to start a new training from these weights; to continue a training, use
        `fit(..., resume=True)`.

        Args:
            checkpoint_path: A training checkpoint, such as `last.ckpt`.
            model: As for `load_surrogate`: the network to load the weights into.
            **arguments: Further arguments, such as `recipe` to replace the file's.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If `load_surrogate` rejects the file, it is not a training
                checkpoint, or it is that of a `GenerativeModule` and this class is none
                (or the reverse).
        """
        surrogate = load_surrogate(checkpoint_path, model)
        if isinstance(surrogate, GenerativeSurrogate) is not cls._draws:
            kind = "SurrogateModule" if cls._draws else "GenerativeModule"
            raise ValueError(
                f"'{checkpoint_path}' holds a {type(surrogate).__name__}, not one of "
                f"{cls.__name__}: load it by {kind}.load_from_checkpoint"
            )
        checkpoint = read_checkpoint(expand_path(checkpoint_path))
        arguments = cls._add_stored(arguments, checkpoint, checkpoint_path)
        described = checkpoint["surrogate"].get("recipe")
        if described is None and "recipe" not in arguments:
            raise ValueError(
                f"'{checkpoint_path}' holds a surrogate without a recipe: pass recipe="
            )
        if "recipe" not in arguments:
            model_class = type(surrogate.model)
            arguments["recipe"] = Recipe(**{**described, "model_class": model_class})
        more = surrogate.read_more(surrogate.describe_more(), surrogate.state_dict())
        settings = surrogate.settings()
        del settings["fourier_octaves"]  # of the recipe
        # Set as attributes because some subclasses do not take these arguments.
        names = ("weighted", "surface", "feature_bounds", "condition_bounds")
        attributes = {name: settings.pop(name) for name in names}
        module = cls(surrogate.model, **{**settings, **more, **arguments})
        for name, value in attributes.items():
            if name not in arguments:
                setattr(module.surrogate, name, value)
        return module

    @classmethod
    def _add_stored(
        cls, arguments: dict[str, Any], checkpoint: dict[str, Any], path: str | Path
    ) -> dict[str, Any]:
        """Add the arguments of a subclass that its checkpoint stores."""
        return arguments

    def on_fit_start(self) -> None:
        """Log the recipe as hyperparameters."""
        plain = json.loads(json.dumps(self.recipe.to_dict()))  # YAML has no tuples
        for logger in self.loggers:
            logger.log_hyperparams(plain)

    def on_train_start(self) -> None:
        """Set the learning rate from the new schedule if its length has changed.

        Warns:
            UserWarning: If the resumed training had another number of steps.
        """
        saved_steps, self._resumed_steps = self._resumed_steps, None
        for config in self.trainer.lr_scheduler_configs:
            continue_schedule(config.scheduler, saved_steps)

    def forward(self, data: Data) -> Tensor:
        """Predict all fields in physical units, $[N, C]$; a pair with `query`."""
        prediction: Tensor = self.surrogate(data)
        return prediction

    def loss(self, prediction: Tensor, data: Data) -> Tensor:
        """Return the mean relative error over fields and samples.

        The recipe's `derivative_weight` adds that multiple of the relative errors of
        both derivatives of the fields on their grid (mean over the samples). Override
        this method to train on another loss; all stages log it with the relative
        errors.

        Args:
            prediction: The decoded fields.
            data: The batch, with the true fields as `y`.

        Shapes:
            - `prediction`: $[N, C]$

        Returns:
            A scalar.

        Raises:
            ValueError: If `data` has no `y`, its shape differs from that of the
                prediction, or the recipe has a `derivative_weight` and the samples are
                not on one grid.
        """
        loss = mean_over_fields(self._errors(prediction, data)).mean()
        if self.recipe.derivative_weight:
            scale = self.surrogate.target_normalizer.scale
            derivatives = derivative_errors(
                prediction, data, self.surrogate.fields, scale
            )
            loss = loss + self.recipe.derivative_weight * derivatives.sum(1).mean()
        return loss

    def measure(self, prediction: Tensor, data: Data) -> dict[str, Tensor]:
        """Return the loss and the other metrics that all stages log.

        Training, validation and test call it, so an override applies to all three.

        Args:
            prediction: The decoded fields.
            data: The batch, with its targets.

        Shapes:
            - `prediction`: $[N, C]$

        Returns:
            Scalars by name: `loss`, which is minimized; `relative_l2`, the mean
            relative error; with several fields also that of each, such as
            `relative_l2_pressure`. An override must return `loss` and may return any
            other scalars.

        Raises:
            ValueError: As `loss`.
        """
        with self._share_errors(prediction, data) as errors:
            loss = self.loss(prediction, data)
        self._flag_zeros(data)
        named = {"relative_l2": mean_over_fields(errors)}
        if len(errors) > 1:
            named |= {f"relative_l2_{name}": error for name, error in errors.items()}
        means = {name: error.detach().mean() for name, error in named.items()}
        return {"loss": loss, **means}

    def training_step(self, batch: Data, batch_idx: int) -> Tensor:
        """Return the loss of one batch.

        Raises:
            RuntimeError: If it is not finite.
        """
        loss = self._measure("train", batch)
        if not bool(torch.isfinite(loss)):
            numbers = numbers_of(batch, range(graphs_of(batch)[1]))
            where = f" in {name_samples(numbers)} of train" if numbers else ""
            gaps = describe_batch_gaps(batch, "train")
            remedy = (
                f": {gaps}; repair it, or leave out the sample"
                if gaps
                else f"{where}: lower learning_rate={self.recipe.learning_rate}, or "
                "resume from the last checkpoint with precision='32-true'"
            )
            raise RuntimeError(
                f"the loss is {loss.item()} in epoch {self.current_epoch}, step "
                f"{self.global_step}{remedy}"
            )
        return loss

    def validation_step(
        self, batch: Data, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Log the measures of one batch of the validation split.

        With several loaders Lightning appends their index to the names, as in
        `val_loss/dataloader_idx_1`.
        """
        self._measure("val", batch)

    def test_step(self, batch: Data, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Log the measures of one batch of the test split, as `validation_step`."""
        self._measure("test", batch)

    def configure_optimizers(self) -> dict[str, Any]:  # type: ignore[override]
        """Return the recipe's optimizer and a one-cycle schedule over all steps.

        Raises:
            ValueError: If the trainer does not determine the number of steps.
        """
        optimizer = build_optimizer(self.surrogate.model, self.recipe)
        num_steps = count_steps(self.trainer)
        schedule = build_schedule(optimizer, self.recipe, num_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add plain values, not pickled objects, to rebuild the surrogate from."""
        checkpoint["surrogate"] = self._description()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to resume with another model, recipe or data description.

        Raises:
            ValueError: If the checkpoint's recipe, model, fields, features or
                description of the data differs.
        """
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, GrowLatents):
                callback.restore(self, checkpoint)
        saved, current = checkpoint["surrogate"], self._description()
        for name, what in _DESCRIBED.items():
            check_same(saved.get(name), current.get(name), what)
        for schedule in checkpoint.get("lr_schedulers", ()):
            # Keep the new schedule's length, which may differ from the saved one.
            self._resumed_steps = schedule.pop("total_steps", None)
            schedule.pop("_schedule_phases", None)

    def _surrogate_class(self) -> Callable[..., Surrogate]:
        """Return the callable that builds the surrogate."""
        return Surrogate

    def _errors(self, prediction: Tensor, data: Data) -> Any:
        """Return the errors of a prediction, cached by `_share_errors` if possible."""
        key = (prediction, data, data.get("y"))
        if self._shared is not None and all(map(is_, key, self._shared)):
            return self._shared[-1]
        return self._compute_errors(prediction, data)

    @contextmanager
    def _share_errors(self, prediction: Tensor, data: Data) -> Iterator[Any]:
        """Compute the errors of a prediction once for all uses in the context."""
        errors = self._compute_errors(prediction, data)
        self._shared = (prediction, data, data.y, errors)
        try:
            yield errors
        finally:
            self._shared = None

    def _compute_errors(self, prediction: Tensor, data: Data) -> Any:
        """Return the relative error of each sample by field name.

        In validation and test, points without a finite target are left out, and so are
        samples in which a field has no finite target.
        """
        if self.training:
            return surrogate_errors(self.surrogate, prediction, data)
        errors = surrogate_errors(self.surrogate, prediction, data, skip_gaps=True)
        has_target = ~mean_over_fields(errors).isnan()
        self._counted = int(has_target.sum())
        return {name: error[has_target] for name, error in errors.items()}

    def _description(self) -> dict[str, Any]:
        described = describe_surrogate(self.surrogate)
        return {**described, "recipe": self.recipe.to_dict()}

    def _is_flagged(self, split: str, what: str) -> bool:
        """Return whether this warning was already issued, and mark it as issued."""
        before = (split, what) in self._flagged
        self._flagged.add((split, what))
        return before

    def _flag_zeros(self, data: Data) -> None:
        """Warn, once per stage and field, that an error is absolute."""
        trainer = self._trainer
        stage = None if trainer is None else trainer.state.stage
        split = "" if stage is None else stage.dataloader_prefix or ""
        for prefix, points, stream in streams(self.surrogate, data):
            scales = stream.split(stream.target_normalizer.scale[None])
            zeros = zero_fields(points.y, points, stream.fields)
            for name, graphs in zeros.items():
                if self._is_flagged(split, prefix + name):
                    continue
                numbers = numbers_of(data, graphs)
                samples = {name: graphs if numbers is None else numbers}
                warn_absolute(samples, scales)

    def _check_gaps(self, stage: str, batch: Data, loss: Tensor | None) -> None:
        """Raise if an input makes the loss non-finite; warn of gaps in the target.

        Raises:
            RuntimeError: If an input of validation or test is not finite.

        Warns:
            UserWarning: If a truth that may have gaps has some.
        """
        diverged = loss is not None and not bool(loss.isfinite())
        if diverged and (
            gaps := describe_batch_gaps(batch, stage, self._may_have_gaps)
        ):
            raise RuntimeError(f"{gaps}: repair it, or leave out the sample")
        inputs = set(batch.to_dict()).difference(TARGETS)
        if (gaps := describe_batch_gaps(batch, stage, inputs)) and not self._is_flagged(
            stage, "gaps"
        ):
            warnings.warn(
                f"{gaps}: these points are left out of the errors of {stage}",
                stacklevel=2,
            )

    def _measure(self, stage: str, batch: Data) -> Tensor:
        """Log the metrics of a batch and return its loss."""
        self._counted = graphs_of(batch)[1]
        try:
            measured = self.measure(self(batch), batch)
        except ValueError as error:
            raise ValueError(f"{_locate(batch, stage)}{error}") from error
        weight = self._counted
        if stage != "train":
            self._check_gaps(stage, batch, measured.get("loss"))
            weight = 0 if is_repeated(batch) else weight
        if "loss" not in measured:
            raise ValueError(
                f"{type(self).__name__}.measure returned {sorted(measured)} without "
                "'loss', which training minimizes: add it"
            )
        for name, value in measured.items():
            self.log(
                f"{stage}_{name}",
                value.detach() if weight else torch.zeros_like(value),
                # A float, because Lightning's average over processes truncates ints.
                batch_size=float(weight),  # type: ignore[arg-type]
                on_step=False,
                on_epoch=True,
                prog_bar=name in ("loss", "relative_l2"),
                sync_dist=True,
            )
        return measured["loss"]


def _locate(batch: Data, stage: str) -> str:
    """Return the beginning of an error: gaps in the input, or the samples."""
    if gaps := describe_batch_gaps(batch, stage, TARGETS):
        return f"{gaps}: "
    numbers = numbers_of(batch, range(graphs_of(batch)[1]))
    return f"{name_samples(numbers)} of {stage}: " if numbers else ""


def refuse_derivatives(recipe: Recipe, reason: str) -> None:
    """Raise `ValueError` if a recipe has a `derivative_weight`.

    Args:
        recipe: The recipe.
        reason: Why derivatives have no error here, for the message.
    """
    if recipe.derivative_weight:
        raise ValueError(
            f"derivative_weight is {recipe.derivative_weight}, but {reason}: set it to "
            "0 in the recipe"
        )
