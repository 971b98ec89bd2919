"""A model class and its training hyperparameters."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

from torch import nn
from torch_geometric.data import Data

from torch_geometric_flare._arguments import check_integers, check_kind, check_numbers
from torch_geometric_flare.fields import num_channels
from torch_geometric_flare.nn import models

Value = int | float | str | bool | tuple[int, ...]
"""An argument of a model; a tuple may be given as a list, for example from JSON."""

INFER = "infer"
"""A placeholder for `grid` or `num_points` in a recipe's model, from the samples."""

OPTIMIZERS = ("adamw", "muon")
COORDINATES = ("given", "box", "statistics")

# Default ratio of the peak learning rates of Muon and AdamW.
_MUON_OVER_ADAMW = 10.0

# Arguments that `Recipe.build` adds, determined by the data set.
_CHANNELS = ("in_channels", "out_channels")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    r"""A model class, its arguments, and its training hyperparameters.

    Training follows a one-cycle schedule.

    Args:
        model_class: Class of the model, or the name of a class in
            `torch_geometric_flare.nn.models`.
        model: Keyword arguments of the class, without `in_channels` and `out_channels`.
        coordinates: Encoding of the coordinates, the first columns of `x`: `"given"` by
            the data set, `"box"` to [-1, 1] by the bounding box of the training
            samples, or `"statistics"` by their mean and deviation.
        fourier_octaves: Number of octaves of sines and cosines of the encoded
            coordinates that are appended to the input, see
            `transforms.fourier_features`; 0 for none.
        epochs: Number of passes over the training split.
        max_steps: Number of steps after which the training and its schedule end, even
            within an epoch; `None` for all steps of the epochs.
        batch_size: Number of samples per step.
        num_points: Number of random points of each sample in each epoch, drawn by
            `FixedPoints(num_points, replace=False)`; `None` for all.
        optimizer: `"adamw"`; or `"muon"`, which uses Muon for the matrices inside the
            network's blocks and AdamW for all other parameters, see
            `training.MuonAdamW`.
        learning_rate: Peak learning rate of AdamW.
        matrix_learning_rate: Peak learning rate of Muon; `None` for ten times
            `learning_rate`. It is the spectral norm of a step, so the same value works
            for all widths.
        betas: Decay rates of Adam's two averages.
        cycle_momentum: Whether the schedule cycles the first of `betas` from 0.95 to
            0.85 and back, as `OneCycleLR` does by default.
        weight_decay: Decoupled weight decay of all parameters that
            `training.parameter_groups` does not exempt.
        gradient_clip: Maximum norm of the gradient.
        pct_start: Fraction of the steps in which the learning rate increases.
        div_factor: Ratio of peak to initial learning rate.
        final_div_factor: Ratio of initial to final learning rate.
        derivative_weight: Weight of the relative errors of both first derivatives
            (`metrics.relative_l2_of_derivatives`) in the loss, for samples on a `grid`;
            0 for none.
        ema_decay: Decay of the exponential moving average of the weights; 0 for none.
            It is reduced for short trainings, see `training.scaled_ema_decay`.

    Raises:
        ValueError: If a number is out of range, `model_class` is not a model class or
            does not accept an argument in `model`.

    Examples:
        >>> recipe = Recipe(model_class=FLARE, model={"hidden_channels": 32})
        >>> recipe.build(in_channels=3, out_channels=1)
        FLARE(3, 32, 1, num_layers=8, heads=8, num_latents=64)
    """

    model_class: type[nn.Module]
    model: Mapping[str, Value] = field(default_factory=dict, hash=False)
    coordinates: str = "given"
    fourier_octaves: int = 0
    epochs: int = 500
    max_steps: int | None = None
    batch_size: int = 2
    num_points: int | None = None
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    matrix_learning_rate: float | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    cycle_momentum: bool = True
    weight_decay: float = 1e-5
    gradient_clip: float = 1.0
    pct_start: float = 0.1
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    derivative_weight: float = 0.0
    ema_decay: float = 0.999

    def __post_init__(self) -> None:
        for name in ("epochs", "max_steps", "batch_size", "num_points"):
            value = getattr(self, name)
            if value is None and name in ("epochs", "batch_size"):
                raise TypeError(f"{name} is None, expected an integer")
            if value is not None:
                check_integers(1, **{name: value})
        check_kind(Mapping, "a mapping of arguments", model=self.model)
        for name, choices in (
            ("optimizer", OPTIMIZERS),
            ("coordinates", COORDINATES),
        ):
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(
                    f"{name} is {value!r}, expected one of {', '.join(choices)}"
                )
        check_integers(0, fourier_octaves=self.fourier_octaves)
        if self.matrix_learning_rate is not None:
            check_numbers(matrix_learning_rate=self.matrix_learning_rate)
        check_numbers(
            learning_rate=self.learning_rate,
            gradient_clip=self.gradient_clip,
            div_factor=self.div_factor,
            final_div_factor=self.final_div_factor,
            weight_decay=self.weight_decay,
            derivative_weight=self.derivative_weight,
            pct_start=self.pct_start,
            ema_decay=self.ema_decay,
        )
        for name in (
            "learning_rate",
            "matrix_learning_rate",
            "gradient_clip",
            "div_factor",
        ):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        if not self.final_div_factor > 0:
            raise ValueError(
                f"final_div_factor must be positive, got {self.final_div_factor}"
            )
        if not self.weight_decay >= 0:
            raise ValueError(
                f"weight_decay must be nonnegative, got {self.weight_decay}"
            )
        if not self.derivative_weight >= 0:
            raise ValueError(
                f"derivative_weight must be nonnegative, got {self.derivative_weight}"
            )
        if self.derivative_weight and self.num_points is not None:
            raise ValueError(
                f"derivative_weight is {self.derivative_weight}, which needs full "
                f"grids, but num_points is {self.num_points}: set it to None"
            )
        if not 0 < self.pct_start < 1:
            raise ValueError(f"pct_start must be between 0 and 1, got {self.pct_start}")
        for name, value in (
            ("ema_decay", self.ema_decay),
            ("betas[0]", self.betas[0]),
            ("betas[1]", self.betas[1]),
        ):
            if not 0 <= value < 1:
                raise ValueError(f"{name} must be in [0, 1), got {value}")
        object.__setattr__(self, "model_class", _find_class(self.model_class))
        # JSON has no tuples.
        object.__setattr__(self, "betas", tuple(self.betas))
        arguments = {name: _as_tuple(value) for name, value in self.model.items()}
        object.__setattr__(self, "model", MappingProxyType(arguments))
        _check_arguments(self.model_class, self.model)

    @property
    def peak_matrix_learning_rate(self) -> float:
        """Peak learning rate of Muon."""
        rate = self.matrix_learning_rate
        return _MUON_OVER_ADAMW * self.learning_rate if rate is None else rate

    def build(
        self,
        in_channels: int,
        out_channels: int,
        num_coordinates: int | None = None,
        condition_channels: int = 0,
    ) -> nn.Module:
        """Build the model with new parameters.

        Args:
            in_channels: Number of channels of the input `x`. Those of `fourier_octaves`
                are added for the model.
            out_channels: Total number of channels of all predicted fields.
            num_coordinates: Number of channels of `x` that are coordinates. Default:
                all.
            condition_channels: Number of channels of the conditions `u` of each sample.

        Returns:
            A module of `model_class`.

        Raises:
            ValueError: If the class has no argument `in_channels`, `out_channels` or,
                for conditions, `condition_channels`, needs an argument that `model`
                lacks, or rejects a value.
        """
        coordinates = in_channels if num_coordinates is None else num_coordinates
        in_channels += 2 * self.fourier_octaves * coordinates
        channels = dict(zip(_CHANNELS, (in_channels, out_channels), strict=True))
        arguments = {**channels, **self.model}
        signature = inspect.signature(self.model_class)
        if condition_channels:
            if "condition_channels" not in signature.parameters:
                raise ValueError(
                    f"condition_channels is {condition_channels}, but "
                    f"{self.model_class.__name__} does not support conditions: pass "
                    "them as features, constant over the points of a sample"
                )
            arguments = {"condition_channels": condition_channels, **arguments}
        try:
            signature.bind(**arguments)
        except TypeError as error:
            raise ValueError(
                f"{self.model_class.__name__} cannot be built from {arguments}: {error}"
            ) from error
        return self.model_class(**arguments)

    def build_for(self, dataset: Sequence[Data]) -> nn.Module:
        """Build the model for the samples of a data set with new parameters.

        Args:
            dataset: Samples with the fields `y`, and with `x` or else `pos` as the
                input. If it has an attribute `features`, like `datasets.MeshFolder`,
                this describes the columns of `x` after the coordinates; otherwise, the
                number of coordinates is that of `pos`. If it has an attribute
                `conditions`, this describes `u`.

        Returns:
            A module of `model_class`.

        Raises:
            ValueError: If there is no sample, or it has no input or no fields; see also
                `build`.
        """
        if len(dataset) == 0:
            raise ValueError("dataset is empty: pass at least one sample")
        sample = dataset[0]
        x, y = sample.get("x"), sample.get("y")
        x = sample.get("pos") if x is None else x
        if x is None or y is None:
            raise ValueError(
                f"dataset has samples of {sorted(sample.keys())}: they need fields y, "
                "and x or pos"
            )
        features = getattr(dataset, "features", None)
        width = x.size(1)
        if features is None:
            coordinates = width if sample.pos is None else sample.pos.size(1)
        elif sample.get("x") is None:
            coordinates, width = width, width + num_channels(features)
        else:
            coordinates = width - num_channels(features)
        recipe = resolve_recipe(self, sample)
        conditions = num_channels(getattr(dataset, "conditions", ()))
        targets = y.view(len(x), -1).size(1)
        return recipe.build(width, targets, coordinates, conditions)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain values, with the name of the class.

        For a class of `torch_geometric_flare.nn.models`, `Recipe(**recipe.to_dict())`
        equals the recipe, also after a round trip through JSON.
        """
        return self.__getstate__() | {"model_class": self.model_class.__name__}

    # Mapping proxies can be neither copied nor pickled.
    def __getstate__(self) -> dict[str, Any]:
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return values | {"model": dict(self.model)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, model=MappingProxyType(state["model"]))


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _find_class(value: object) -> type[nn.Module]:
    """Return a class unchanged, or look up a name in `nn.models`."""
    is_name = isinstance(value, str) and value in models.__all__
    model_class = getattr(models, str(value)) if is_name else value
    if isinstance(model_class, type) and issubclass(model_class, nn.Module):
        return model_class
    raise ValueError(
        f"model_class is {value!r}, expected a subclass of torch.nn.Module or one of "
        f"the names {', '.join(models.__all__)}"
    )


def _check_arguments(
    model_class: type[nn.Module], arguments: Mapping[str, Any]
) -> None:
    parameters = inspect.signature(model_class).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in arguments:
        if name in _CHANNELS:
            raise ValueError(
                f"model has {name!r}, which is an argument of build: omit it"
            )
        if name not in parameters and not open_ended:
            raise ValueError(
                f"model has {name!r}, which {model_class.__name__} does not accept, "
                f"only {', '.join(p for p in parameters if p not in _CHANNELS)}"
            )


def resolve_recipe(recipe: Recipe, sample: Data) -> Recipe:
    """Replace `INFER` in a recipe by the values of a sample.

    Args:
        recipe: The recipe. `grid` and `num_points` of its model may be `INFER`.
        sample: Any sample; all samples must have the same grid or number of points.

    Raises:
        ValueError: If the sample has no grid, or another argument is `INFER`.
    """
    inferred: dict[str, int | tuple[int, ...]] = {}
    for name in (name for name, value in recipe.model.items() if value == INFER):
        if name == "num_points":
            inferred[name] = int(sample.num_nodes)
        elif name == "grid" and sample.get("grid") is not None:
            inferred[name] = tuple(int(length) for length in sample.grid)
        else:
            raise ValueError(
                f"this recipe of {recipe.model_class.__name__} infers {name!r} from "
                f"the samples, which have {sorted(sample.keys())}: use samples on a "
                "grid, or another model"
            )
    return replace(recipe, model={**recipe.model, **inferred}) if inferred else recipe
