"""A model with its normalizers: maps samples to fields in physical units."""

import copy
import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from types import NoneType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_flare._arguments import check_kind
from torch_geometric_flare._finite import TARGETS, find_gaps
from torch_geometric_flare.fields import Field, Fields, channel_slices, num_channels
from torch_geometric_flare.functional.checks import cast_weight
from torch_geometric_flare.nn.wrappers import forward_parameters, unwrap
from torch_geometric_flare.surrogates.arguments import (
    edge_transform,
    forward_arguments,
    supports_weights,
)
from torch_geometric_flare.surrogates.calibration import Calibration
from torch_geometric_flare.surrogates.guard import Guard
from torch_geometric_flare.surrogates.normalized_points import (
    NormalizedPoints,
    names_of,
)
from torch_geometric_flare.transforms import Normalizer

# A box farther from the origin, in units of its size, loses too many digits.
_FAR = 2**10


class NormalizedModel(NormalizedPoints):
    r"""The numerical part of a `Surrogate`, which documents its arguments."""

    own_conditions: int = 0
    """Number of conditions that a subclass adds to those of the samples."""

    def __init__(
        self,
        model: nn.Module,
        target_normalizer: Normalizer,
        coordinate_normalizer: Normalizer | None = None,
        training_data: str | None = None,
        *,
        fields: Iterable[Field] | None = None,
        features: Iterable[Field] = (),
        input_normalizer: Normalizer | None = None,
        location: str | None = None,
        fourier_octaves: int = 0,
        weighted: bool = False,
        surface: bool = False,
        conditions: Iterable[Field] = (),
        condition_normalizer: Normalizer | None = None,
        feature_bounds: tuple[Sequence[float], Sequence[float]] | None = None,
        condition_bounds: tuple[Sequence[float], Sequence[float]] | None = None,
    ) -> None:
        super().__init__(
            target_normalizer,
            coordinate_normalizer,
            fields=fields,
            features=features,
            input_normalizer=input_normalizer,
            fourier_octaves=fourier_octaves,
        )
        if location not in ("cell", "point", None):
            raise ValueError(f"location must be 'cell' or 'point', got {location!r}")
        check_kind(nn.Module, "a torch.nn.Module", model=model)
        check_kind(
            (Normalizer, NoneType),
            "a transforms.Normalizer or None",
            condition_normalizer=condition_normalizer,
        )
        self.model = model
        self.condition_normalizer = condition_normalizer
        self.training_data = training_data
        self.location = location
        check_kind(bool, "True or False", weighted=weighted, surface=surface)
        self.surface = surface
        self.weighted = weighted and supports_weights(model)
        self.conditions: Fields = tuple(conditions)
        # Raises ValueError if two names are equal.
        channel_slices((*self.features, *self.conditions))
        self.feature_bounds = _check_bounds("feature", feature_bounds, self.features)
        self.condition_bounds = _check_bounds(
            "condition", condition_bounds, self.conditions
        )
        self.guard: Guard | None = None
        self.calibration: Calibration | None = None
        self._check_conditions()

    def _check_conditions(self) -> None:
        """Raise `ValueError` unless the model, names and normalizer of `u` agree."""
        names, number = names_of(self.conditions), num_channels(self.conditions)
        normalizer = self.condition_normalizer
        if normalizer is not None and normalizer.num_channels != number:
            raise ValueError(
                f"condition_normalizer has {normalizer.num_channels} channels, but "
                f"conditions are {names or 'none'}, {number} channels"
            )
        number += self.own_conditions
        if number == 0:
            return
        name, kind = type(unwrap(self.model)).__name__, type(self).__name__
        names = names or "none"
        if self.own_conditions:
            names += f" and {self.own_conditions} of {kind} itself"
        if "u" not in forward_parameters(self.model):
            raise ValueError(
                f"conditions are {names}, but the forward of {name} takes no u: take a "
                f"model such as FLARE with condition_channels={number}"
                + ("" if self.own_conditions else ", or leave them out")
            )
        built = getattr(unwrap(self.model), "condition_channels", number)
        if built != number:
            raise ValueError(
                f"conditions are {names}, {number} channels, but "
                f"{name} was built with condition_channels={built}: build it with "
                f"condition_channels={number}"
            )

    def forward(self, data: Data | Tensor) -> Tensor:
        """Predict all fields in physical units; differentiable.

        Inputs are cast to the dtype of the model's parameters. If the forward names
        `pos` and the training box is farther from the origin than 1,024 times its size,
        `pos` is relative to that box. Edges that the forward needs and `data` lacks are
        added, see `edge_transform`.

        Args:
            data: A sample or a batch of samples with the fields that the model's
                forward names, including `u`, the conditions of each sample in physical
                units; or only the positions of one sample.

        Shapes:
            - positions: $[N, D]$, in the units of the training data

        Returns:
            The concatenated predicted fields, $[N, C]$.

        Raises:
            ValueError: If `data` lacks a feature or a field that the model's forward
                names, its `x` does not have the number of channels of
                `input_normalizer`, or its `u` does not match `conditions`.
        """
        arguments = self.model_arguments(data)
        if _has_other_width(self.model, arguments.get("x")):
            encoded = self._name_channels(arguments)
        else:
            encoded = self.model(**arguments)
        # In the precision of the normalizer if the model's is lower.
        decoded: Tensor = self.target_normalizer.decode(encoded)
        return decoded

    def model_arguments(self, data: Data | Tensor) -> dict[str, Any]:
        """Return the encoded arguments of the model's forward for a sample or a batch.

        Args:
            data: As for `forward`.

        Raises:
            ValueError: As `forward`.
        """
        if isinstance(data, Tensor):
            data = Data(pos=data)
        check_kind(Data, "a torch_geometric.data.Data or positions", data=data)
        x = self.encode_input(data)
        if x is not None:
            data = copy.copy(data)
            data.x = x
        edges = edge_transform(self.model)
        if edges is not None:
            data = edges(data)
        arguments = forward_arguments(self.model, data)
        if "weight" in arguments and not self.weighted and supports_weights(self.model):
            del arguments["weight"]
        if self.conditions:
            arguments["u"] = self._encode_conditions(data)
        if isinstance(arguments.get("pos"), Tensor):
            arguments["pos"] = self._near_origin(arguments["pos"])
        return _as_floating(arguments, self.model)

    def settings(self) -> dict[str, Any]:
        """Return the constructor arguments except the model, by name."""
        _, *names = inspect.signature(NormalizedModel).parameters
        return {name: getattr(self, name) for name in names}

    def describe_more(self) -> dict[str, Any]:
        """Return further plain values that a checkpoint stores for a subclass."""
        return {}

    @classmethod
    def read_more(
        cls, description: Mapping[str, Any], state: Mapping[str, Tensor]
    ) -> dict[str, Any]:
        """Return further constructor arguments of a subclass from a checkpoint.

        Args:
            description: A mapping that includes the output of `describe_more`.
            state: Tensors by name, as in `state_dict`.
        """
        return {}

    def _encode_conditions(self, data: Data) -> Tensor:
        """Return the encoded conditions of each sample, $[B, G]$."""
        u: Tensor | None = data.get("u")
        width = num_channels(self.conditions)
        if u is None:
            raise ValueError(
                f"data lacks u, the conditions {names_of(self.conditions)}: add it to "
                f"each sample, u of shape [1, {width}]"
            )
        if u.dim() != 2 or u.size(1) != width:
            raise ValueError(
                f"u has shape {tuple(u.shape)}, expected [B, {width}], a row for each "
                f"sample: {names_of(self.conditions)}"
            )
        normalizer = self.condition_normalizer
        return u if normalizer is None else normalizer.encode(u)

    def _near_origin(self, pos: Tensor) -> Tensor:
        """Return coordinates that keep their digits when cast to lower precision.

        If the training box is far from the origin, as in a national grid, they are
        relative to its lower corner.
        """
        box = self.coordinate_normalizer
        if box is None or box.num_channels != pos.size(-1):
            return pos
        far = box.shift.abs().max() > _FAR * box.scale.max()
        return (pos - torch.where(far, box.shift, 0.0)).to(pos.dtype)

    def _name_channels(self, arguments: dict[str, Any]) -> Any:
        """Call the model; if it rejects `x`, name the channels of `x` in the error."""
        try:
            return self.model(**arguments)
        except (ValueError, RuntimeError) as error:
            network = unwrap(self.model)
            features = num_channels(self.features)
            width = arguments["x"].size(1)
            coordinates = (width - features) // (1 + 2 * self.fourier_octaves)
            parts = [f"{coordinates} coordinates"]
            parts += [f"{field.name} ({field.channels})" for field in self.features]
            if self.fourier_octaves:
                parts += [f"{width - features - coordinates} Fourier features"]
            raise ValueError(
                f"x has {width} channels: {', '.join(parts)}; but "
                f"{type(network).__name__} was built with in_channels="
                f"{network.in_channels}: build it with in_channels={width}, or name "
                "other features"
            ) from error

    @torch.no_grad()
    def predict(self, data: Data | Tensor) -> Tensor:
        """Predict as `forward` does, in evaluation mode and without gradients.

        Args:
            data: A sample, a batch of samples, or the positions of one sample.

        Returns:
            The concatenated predicted fields, $[N, C]$.

        Raises:
            ValueError: As `forward`; also if the fields are not finite because the
                input is not.
        """
        self.eval()
        prediction: Any = self(data)
        parts = prediction if isinstance(prediction, tuple) else (prediction,)
        check_input_gaps(parts, data)
        return cast(Tensor, prediction)


def check_input_gaps(predicted: Iterable[Tensor], data: Data | Tensor) -> None:
    """Raise `ValueError` if a prediction is not finite because of its input.

    Args:
        predicted: What was predicted.
        data: From which sample, batch or positions.
    """
    if all(bool(part.isfinite().all()) for part in predicted):
        return
    sample = Data(pos=data) if isinstance(data, Tensor) else data
    if gaps := find_gaps(sample, TARGETS):
        raise ValueError(gaps)


def _has_other_width(model: nn.Module, x: Tensor | None) -> bool:
    """Return whether the width of `x` differs from the model's `in_channels`."""
    expected = getattr(unwrap(model), "in_channels", None)
    if x is None or x.dim() != 2 or not isinstance(expected, int) or expected < 1:
        return False
    return x.size(1) != expected


def _check_bounds(
    kind: str,
    bounds: tuple[Sequence[float], Sequence[float]] | None,
    features: Fields,
) -> tuple[list[float], list[float]] | None:
    if bounds is None:
        return None
    lower, upper = (list(map(float, values)) for values in bounds)
    fits = len(lower) == len(upper) == num_channels(features)
    pairs = list(zip(lower, upper, strict=False))
    if not fits or not all(-math.inf < low <= high < math.inf for low, high in pairs):
        raise ValueError(
            f"{kind}_bounds are {lower} and {upper}, expected a least and a largest "
            f"value of each of the {num_channels(features)} channels of {kind}s"
        )
    return lower, upper


def _as_floating(arguments: dict[str, Any], model: nn.Module) -> dict[str, Any]:
    """Cast only the floating-point fields to the dtype of the parameters."""
    dtypes = (p.dtype for p in model.parameters() if p.is_floating_point())
    dtype = next(dtypes, None)
    if dtype is None:
        return arguments
    cast = {
        name: value.to(dtype)
        if isinstance(value, Tensor) and value.is_floating_point()
        else value
        for name, value in arguments.items()
    }
    weight = arguments.get("weight")
    if isinstance(weight, Tensor) and weight.is_floating_point():
        # In half precision too, operators keep weights in single precision.
        cast["weight"] = cast_weight(weight, torch.promote_types(dtype, torch.float32))
    return cast
