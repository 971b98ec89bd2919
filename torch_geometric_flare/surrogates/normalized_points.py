"""Fields, features and normalizers of one set of points."""

from collections.abc import Iterable, Mapping, Sequence
from types import NoneType
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_flare._arguments import check_integers, check_kind
from torch_geometric_flare.fields import Field, Fields, channel_slices, num_channels
from torch_geometric_flare.transforms import Normalizer, fourier_features, make_input


class NormalizedPoints(nn.Module):
    r"""Names, units and normalizers of one set of points.

    Args:
        target_normalizer: Decodes the network's output.
        coordinate_normalizer: Encodes the positions of a sample without `x`.
        fields: Names and units of the columns of the prediction; `None` for one field
            called `field` with all of them.
        features: Names and units of the columns of `x` after the coordinates.
        input_normalizer: Encodes all channels of `x`.
        fourier_octaves: Octaves of `transforms.fourier_features` of the coordinates.

    Raises:
        ValueError: If two fields or two features have the same name, or the number of
            channels of `fields`, or of the coordinates and `features`, differs from
            that of the normalizer.
    """

    def __init__(
        self,
        target_normalizer: Normalizer,
        coordinate_normalizer: Normalizer | None = None,
        *,
        fields: Iterable[Field] | None = None,
        features: Iterable[Field] = (),
        input_normalizer: Normalizer | None = None,
        fourier_octaves: int = 0,
    ) -> None:
        super().__init__()
        what = "a transforms.Normalizer"
        check_kind(Normalizer, what, target_normalizer=target_normalizer)
        check_kind(
            (Normalizer, NoneType),
            f"{what} or None",
            coordinate_normalizer=coordinate_normalizer,
            input_normalizer=input_normalizer,
        )
        channels = target_normalizer.num_channels
        self.target_normalizer = target_normalizer
        self.coordinate_normalizer = coordinate_normalizer
        self.input_normalizer = input_normalizer
        check_integers(0, fourier_octaves=fourier_octaves)
        self.fourier_octaves = fourier_octaves
        self.fields: Fields = (
            (Field("field", channels),) if fields is None else tuple(fields)
        )
        self.features: Fields = tuple(features)
        # Raises ValueError if two names are equal.
        channel_slices(self.fields)
        channel_slices(self.features)
        if num_channels(self.fields) != channels:
            raise ValueError(
                f"fields are {names_of(self.fields)} of {num_channels(self.fields)} "
                f"channels together, but target_normalizer has {channels}"
            )
        if coordinate_normalizer is not None and input_normalizer is not None:
            width = coordinate_normalizer.num_channels + num_channels(self.features)
            if width != input_normalizer.num_channels:
                raise ValueError(
                    f"input_normalizer has {input_normalizer.num_channels} channels, "
                    f"but coordinates and features have {width} together"
                )

    def encode_input(self, data: Data) -> Tensor | None:
        """Return the model input `x` for a sample or a batch.

        Args:
            data: A sample or batch with `x`, or with `pos` and the named features.

        Returns:
            The encoded input, $[N, C_in]$; `None` if `data` has no `x` and it cannot be
            built: `pos` is missing, or the surrogate has no coordinate normalizer,
            input normalizer or features.

        Raises:
            ValueError: If `data` lacks a feature, or its `x` does not have the number
                of channels of `input_normalizer`.
        """
        x: Tensor | None = data.get("x")
        if x is None:
            # Without any of the three, this surrogate cannot build x; samples must
            # have it.
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
        """Append Fourier features of the coordinates, which are the first columns."""
        if not self.fourier_octaves:
            return x
        coordinates = x[:, : x.size(1) - num_channels(self.features)]
        return torch.cat([x, fourier_features(coordinates, self.fourier_octaves)], 1)

    def _normalize(self, x: Tensor) -> Tensor:
        if self.input_normalizer is None:
            return x
        expected = self.input_normalizer.num_channels
        if x.dim() != 2 or x.size(1) != expected:
            named = f"the coordinates and {names_of(self.features)}"
            raise ValueError(
                f"x has shape {tuple(x.shape)}, expected [N, {expected}]: "
                f"{named if self.features else 'the coordinates'}"
            )
        return self.input_normalizer.encode(x)

    def split(self, prediction: Tensor) -> dict[str, Tensor]:
        """Return the columns of each field.

        Args:
            prediction: Output of `forward` or `predict`, or a target.

        Shapes:
            - `prediction`: $[N, C]$

        Returns:
            The fields by name, $[N, C_f]$ each, views of `prediction`.

        Raises:
            ValueError: If `prediction` has the wrong number of channels.
        """
        channels = num_channels(self.fields)
        if prediction.dim() != 2 or prediction.size(1) != channels:
            raise ValueError(
                f"prediction has shape {tuple(prediction.shape)}, expected "
                f"[N, {channels}]: {names_of(self.fields)}"
            )
        return {
            name: prediction[:, columns]
            for name, columns in channel_slices(self.fields).items()
        }


def names_of(fields: Fields) -> str:
    """Return the names and units of fields for messages."""
    return ", ".join(str(field) for field in fields)


def read_fields(described: Sequence[Mapping[str, Any]]) -> Fields:
    """Return fields from their plain values in a checkpoint."""
    return tuple(Field(**entry) for entry in described)


def read_normalizer(state: Mapping[str, Tensor], name: str) -> Normalizer | None:
    """Return a normalizer from the tensors of a checkpoint; `None` if missing."""
    if f"{name}.shift" not in state:
        return None
    return Normalizer(state[f"{name}.shift"], state[f"{name}.scale"])
