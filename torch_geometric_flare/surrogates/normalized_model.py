"""A model between its normalisers: from samples to fields in their own units."""

import copy
import math
from collections.abc import Iterable, Sequence
from types import NoneType
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_flare._arguments import check_integers, check_kind
from torch_geometric_flare.fields import Field, Fields, channel_slices, num_channels
from torch_geometric_flare.nn.wrappers import forward_parameters, unwrap
from torch_geometric_flare.surrogates.arguments import (
    edge_transform,
    forward_arguments,
    supports_weights,
)
from torch_geometric_flare.transforms import Normalizer, fourier_features, make_input

# Extents of the box between it and the origin that cost a coordinate too many digits.
_FAR = 2**10


class NormalizedModel(nn.Module):
    r"""The numerical part of a `Surrogate`, which documents its arguments."""

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
        conditions: Iterable[Field] = (),
        condition_normalizer: Normalizer | None = None,
        feature_bounds: tuple[Sequence[float], Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        if location not in ("cell", "point", None):
            raise ValueError(f"location must be 'cell' or 'point', got {location!r}")
        check_kind(nn.Module, "a torch.nn.Module", model=model)
        what = "a transforms.Normalizer"
        check_kind(Normalizer, what, target_normalizer=target_normalizer)
        check_kind(
            (Normalizer, NoneType),
            f"{what} or None",
            coordinate_normalizer=coordinate_normalizer,
            input_normalizer=input_normalizer,
            condition_normalizer=condition_normalizer,
        )
        channels = target_normalizer.num_channels
        self.model = model
        self.target_normalizer = target_normalizer
        self.coordinate_normalizer = coordinate_normalizer
        self.input_normalizer = input_normalizer
        self.condition_normalizer = condition_normalizer
        self.training_data = training_data
        self.location = location
        check_integers(0, fourier_octaves=fourier_octaves)
        self.fourier_octaves = fourier_octaves
        check_kind(bool, "True or False", weighted=weighted)
        self.weighted = weighted and supports_weights(model)
        self.fields: Fields = (
            (Field("field", channels),) if fields is None else tuple(fields)
        )
        self.features: Fields = tuple(features)
        self.conditions: Fields = tuple(conditions)
        # Raises if two have the same name.
        channel_slices((*self.features, *self.conditions))
        self.feature_bounds = _check_bounds(feature_bounds, self.features)
        channel_slices(self.fields)
        if num_channels(self.fields) != channels:
            raise ValueError(
                f"fields are {_names(self.fields)} of {num_channels(self.fields)} "
                f"channels together, but target_normalizer has {channels}"
            )
        self._check_conditions()
        if coordinate_normalizer is not None and input_normalizer is not None:
            made = coordinate_normalizer.num_channels + num_channels(self.features)
            if made != input_normalizer.num_channels:
                raise ValueError(
                    f"input_normalizer has {input_normalizer.num_channels} channels, "
                    f"but coordinates and features have {made} together"
                )

    def _check_conditions(self) -> None:
        """Raise `ValueError` unless model, names and normaliser of `u` agree."""
        number = num_channels(self.conditions)
        normalizer = self.condition_normalizer
        if normalizer is not None and normalizer.num_channels != number:
            raise ValueError(
                f"condition_normalizer has {normalizer.num_channels} channels, but "
                f"conditions are {_names(self.conditions) or 'none'}, {number} channels"
            )
        if number == 0:
            return
        name = type(unwrap(self.model)).__name__
        if "u" not in forward_parameters(self.model):
            raise ValueError(
                f"conditions are {_names(self.conditions)}, but the forward of {name} "
                "takes no u: leave them out, or take a model such as FLARE with "
                f"condition_channels={number}"
            )
        built = getattr(unwrap(self.model), "condition_channels", number)
        if built != number:
            raise ValueError(
                f"conditions are {_names(self.conditions)}, {number} channels, but "
                f"{name} was built with condition_channels={built}: build it with "
                f"condition_channels={number}"
            )

    def forward(self, data: Data | Tensor) -> Tensor:
        """Predict all fields in their own units, differentiably.

        Numbers are handed to the model in the dtype of its parameters; `pos`, where its
        forward names it, relative to the box of the training if that lies more than
        1,024 times its size away from the origin. Where its
        forward asks for edges that `data` lacks, they are made, see `edge_transform`.

        Args:
            data: A sample or a batch of samples with the fields that the model's
                forward names, among them `u`, the conditions of each sample in their
                own units; or the positions of one sample alone.

        Shapes:
            - positions: $[N, D]$, in the units of the training data

        Returns:
            The predicted fields side by side, $[N, C]$.

        Raises:
            ValueError: If `data` lacks a feature or a field that the model's forward
                names, or its `x` has another number of channels than
                `input_normalizer`, or its `u` is not as `conditions` say.
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
        arguments = _as_floating(arguments, self.model)
        if _has_other_width(self.model, arguments.get("x")):
            encoded = self._name_channels(arguments)
        else:
            encoded = self.model(**arguments)
        # In the precision of the normaliser, where the model's is less.
        decoded: Tensor = self.target_normalizer.decode(encoded)
        return decoded

    def _encode_conditions(self, data: Data) -> Tensor:
        """Return the encoded conditions of each sample, $[B, G]$."""
        u: Tensor | None = data.get("u")
        width = num_channels(self.conditions)
        if u is None:
            raise ValueError(
                f"data lacks u, the conditions {_names(self.conditions)}: add it to "
                f"each sample, u of shape [1, {width}]"
            )
        if u.dim() != 2 or u.size(1) != width:
            raise ValueError(
                f"u has shape {tuple(u.shape)}, expected [B, {width}], a row for each "
                f"sample: {_names(self.conditions)}"
            )
        normalizer = self.condition_normalizer
        return u if normalizer is None else normalizer.encode(u)

    def _near_origin(self, pos: Tensor) -> Tensor:
        """Return coordinates that keep their digits when they are cast.

        Where the box of the training lies far from the origin, as in a national grid,
        they are taken from its lower corner.
        """
        box = self.coordinate_normalizer
        if box is None or box.num_channels != pos.size(-1):
            return pos
        far = box.shift.abs().max() > _FAR * box.scale.max()
        return (pos - torch.where(far, box.shift, 0.0)).to(pos.dtype)

    def _name_channels(self, arguments: dict[str, Any]) -> Any:
        """Predict; say what the channels of `x` are if the model refuses them."""
        try:
            return self.model(**arguments)
        except (ValueError, RuntimeError) as error:
            network = unwrap(self.model)
            features = num_channels(self.features)
            found = arguments["x"].size(1)
            coordinates = (found - features) // (1 + 2 * self.fourier_octaves)
            held = [f"{coordinates} coordinates"]
            held += [f"{field.name} ({field.channels})" for field in self.features]
            if self.fourier_octaves:
                held += [f"{found - features - coordinates} Fourier features"]
            raise ValueError(
                f"x has {found} channels: {', '.join(held)}; but "
                f"{type(network).__name__} was built with in_channels="
                f"{network.in_channels}: build it with in_channels={found}, or name "
                "other features"
            ) from error

    def encode_input(self, data: Data) -> Tensor | None:
        """Return the input of the model, its `x`, for a sample or a batch.

        Args:
            data: With `x`, or with `pos` and the named features.

        Returns:
            The encoded input, $[N, C_in]$; `None` if `data` has no `x` and it cannot be
            made: `pos` is missing, or the surrogate knows neither coordinates nor
            features nor inputs.

        Raises:
            ValueError: If `data` lacks a feature, or its `x` has another number of
                channels than `input_normalizer`.
        """
        x: Tensor | None = data.get("x")
        if x is None:
            # Samples of a surrogate that knows none of the three bring their own x,
            # and what it was made of is not known here.
            makes_input = (
                self.coordinate_normalizer is not None
                or self.input_normalizer is not None
                or bool(self.features)
            )
            if "pos" not in data or not makes_input:
                return None
            x = make_input(data, self.features, self.coordinate_normalizer)
        return self._add_fourier_features(self._normalize(x))

    def _add_fourier_features(self, x: Tensor) -> Tensor:
        """Append the Fourier features of the coordinates, the first columns."""
        if not self.fourier_octaves:
            return x
        coordinates = x[:, : x.size(1) - num_channels(self.features)]
        return torch.cat([x, fourier_features(coordinates, self.fourier_octaves)], 1)

    def _normalize(self, x: Tensor) -> Tensor:
        if self.input_normalizer is None:
            return x
        expected = self.input_normalizer.num_channels
        if x.dim() != 2 or x.size(1) != expected:
            named = f"the coordinates and {_names(self.features)}"
            raise ValueError(
                f"x has shape {tuple(x.shape)}, expected [N, {expected}]: "
                f"{named if self.features else 'the coordinates'}"
            )
        return self.input_normalizer.encode(x)

    def split(self, prediction: Tensor) -> dict[str, Tensor]:
        """Return the columns of each field.

        Args:
            prediction: What `forward` or `predict` returned, or a target.

        Shapes:
            - `prediction`: $[N, C]$

        Returns:
            The fields by name, $[N, C_f]$ each, views of `prediction`.

        Raises:
            ValueError: If `prediction` has another number of channels.
        """
        channels = num_channels(self.fields)
        if prediction.dim() != 2 or prediction.size(1) != channels:
            raise ValueError(
                f"prediction has shape {tuple(prediction.shape)}, expected "
                f"[N, {channels}]: {_names(self.fields)}"
            )
        return {
            name: prediction[:, columns]
            for name, columns in channel_slices(self.fields).items()
        }

    @torch.no_grad()
    def predict(self, data: Data | Tensor) -> Tensor:
        """Predict as `forward` does, in evaluation mode and without gradients.

        Args:
            data: A sample, a batch of samples, or the positions of one sample.

        Returns:
            The predicted fields side by side, $[N, C]$.
        """
        self.eval()
        prediction: Tensor = self(data)
        return prediction


def _has_other_width(model: nn.Module, x: Tensor | None) -> bool:
    """Return whether `x` has not as many channels as the model says that it takes."""
    expected = getattr(unwrap(model), "in_channels", None)
    if x is None or x.dim() != 2 or not isinstance(expected, int) or expected < 1:
        return False
    return x.size(1) != expected


def _check_bounds(
    bounds: tuple[Sequence[float], Sequence[float]] | None, features: Fields
) -> tuple[list[float], list[float]] | None:
    if bounds is None:
        return None
    lower, upper = (list(map(float, values)) for values in bounds)
    fits = len(lower) == len(upper) == num_channels(features)
    pairs = list(zip(lower, upper, strict=False))
    if not fits or not all(-math.inf < low <= high < math.inf for low, high in pairs):
        raise ValueError(
            f"feature_bounds are {lower} and {upper}, expected a least and a largest "
            f"value of each of the {num_channels(features)} channels of features"
        )
    return lower, upper


def _names(fields: Fields) -> str:
    return ", ".join(str(field) for field in fields)


def _as_floating(arguments: dict[str, Any], model: nn.Module) -> dict[str, Any]:
    """Cast floating-point fields to the dtype of the parameters, and nothing else."""
    dtypes = (p.dtype for p in model.parameters() if p.is_floating_point())
    dtype = next(dtypes, None)
    if dtype is None:
        return arguments
    return {
        name: value.to(dtype)
        if isinstance(value, Tensor) and value.is_floating_point()
        else value
        for name, value in arguments.items()
    }
