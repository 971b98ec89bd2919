"""Affine normalization of fields, coordinates and inputs."""

import warnings
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from torch_geometric_flare._arguments import brief, check_kind
from torch_geometric_flare._finite import describe_gaps

# Maximum change of an encoded value by rounding.
_LARGEST_SHIFT = 2.0**-21
# Ratio of shift to scale up to which decoding in single precision is exact enough.
_LARGEST_OFFSET = 2.0**7


class Normalizer(nn.Module):
    r"""An affine map of each channel, stored as buffers.

    Encoding and decoding are

    $$
    \mathrm{encode}(v) = \frac{v - \mathrm{shift}}{\mathrm{scale}}, \qquad
    \mathrm{decode}(v) = v \cdot \mathrm{scale} + \mathrm{shift}
    $$

    Build one with `Normalizer.gaussian` or `Normalizer.from_bounds`, or from known
    statistics. If channels are normalized in different ways, concatenate the parts with
    `Normalizer.cat`; `Normalizer.identity` does not change its channels. For an input
    of coordinates in [0, 1] and one feature:

    >>> coefficients = [torch.tensor([[3.0], [12.0], [12.0]])]
    >>> parts = [Normalizer.identity(2), Normalizer.gaussian(coefficients)]
    >>> Normalizer.cat(parts).num_channels
    3

    The buffers move with the parent module and are part of its `state_dict`. Statistics
    are stored in double precision if single precision would shift encoded values, as
    for coordinates far from the origin; these are then also subtracted in double
    precision. Casting the parent module to a narrower dtype does not round them; a
    device without double precision does.

    Args:
        shift: Number that encoding subtracts, in the units of the field.
        scale: Positive number by which encoding divides, in the units of the field.

    Shapes:
        - `shift`, `scale`: $[C]$

    Raises:
        ValueError: If these are not finite vectors of the same length, or `scale` is
            not positive.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self, shift: Tensor | Sequence[float], scale: Tensor | Sequence[float]
    ) -> None:
        super().__init__()
        shift, scale = _vector("shift", shift), _vector("scale", scale)
        if shift.dim() != 1 or shift.shape != scale.shape or shift.numel() == 0:
            raise ValueError(
                "shift and scale must be vectors [C] of equal length, got shapes "
                f"{tuple(shift.shape)} and {tuple(scale.shape)}"
            )
        if not bool(shift.isfinite().all() and scale.isfinite().all()):
            raise ValueError(
                f"shift and scale must be finite, got {shift.tolist()} and "
                f"{scale.tolist()}: look for nan or inf in the training split"
            )
        if bool((scale <= 0).any()):
            raise ValueError(f"scale must be positive, got {scale.tolist()}")
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)

    @classmethod
    def gaussian(
        cls, tensors: Iterable[Tensor], *, names: Sequence[str] = ()
    ) -> "Normalizer":
        r"""Return the map to zero mean and unit deviation over all points and samples.

        The deviation is the sample standard deviation (divided by $n - 1$). Nothing is
        added to it, so fields of any magnitude are normalized. A constant channel is
        encoded by its difference from the constant, with a scale of 1. The tensors are
        read once, so they may come from a generator, and sums are computed in double
        precision.

        Args:
            tensors: The field of each training sample.
            names: Names of the channels in warnings. Default: their indices.

        Shapes:
            - each tensor: $[N, C]$

        Returns:
            The normalizer.

        Raises:
            ValueError: If a tensor has another shape or values that are not finite, or
                there are fewer than two points in total.

        Warns:
            UserWarning: If a channel is constant.
        """
        count = 0
        mean = squares = low = high = torch.zeros(0, dtype=torch.float64)
        check_kind(Iterable, "a sequence of tensors [N, C]", tensors=tensors)
        for index, tensor in enumerate(tensors):
            if not isinstance(tensor, Tensor):
                raise TypeError(
                    f"tensors holds {brief(tensor)}, expected tensors [N, C]"
                )
            if tensor.dim() != 2 or (count and tensor.size(1) != mean.numel()):
                raise ValueError(
                    f"tensor {index} has shape {tuple(tensor.shape)}, expected "
                    f"[N, {mean.numel() if count else 'C'}]"
                )
            if tensor.size(0) == 0:
                continue
            values = tensor.detach().to("cpu", torch.float64)
            if gaps := describe_gaps(values.numpy()):
                raise ValueError(
                    f"tensor {index} has {gaps}: repair it, or leave out the sample"
                )
            new_mean = values.mean(0)
            new_low, new_high = values.aminmax(dim=0)
            new_squares = (values - new_mean).square().sum(0)
            if count == 0:
                mean, squares = torch.zeros_like(new_mean), torch.zeros_like(new_mean)
                low, high = new_low, new_high
            low, high = torch.minimum(low, new_low), torch.maximum(high, new_high)
            # Combine two sums of squares around their means into one around the common
            # mean.
            added, total = values.size(0), count + values.size(0)
            difference = new_mean - mean
            mean = mean + difference * (added / total)
            squares = squares + new_squares
            squares = squares + difference.square() * (count * added / total)
            count = total
        if count < 2:
            raise ValueError(
                f"tensors have {count} points in total, but a deviation needs two: "
                "pass the field of every training sample"
            )
        scale = (squares / (count - 1)).sqrt()
        # Sums of equal numbers may be rounded, so the deviation of a constant may be
        # nonzero.
        constant = low == high
        for channel in constant.nonzero().flatten().tolist():
            name = names[channel] if names else f"channel {channel}"
            warnings.warn(
                f"{name} is {low[channel].item():g} at all {count} points of the "
                "training split, so nothing can be learned from it: it is encoded by "
                "its difference from this value, with a scale of 1",
                stacklevel=2,
            )
        return cls(
            *_narrow_if_exact(
                torch.where(constant, low, mean), scale.where(~constant, 1.0)
            )
        )

    @classmethod
    def from_bounds(
        cls, lower: Tensor | Sequence[float], upper: Tensor | Sequence[float]
    ) -> "Normalizer":
        """Return the map of `lower` to 0 and `upper` to 1 in each channel.

        Args:
            lower: The lower bound of each channel.
            upper: The upper bound of each channel.

        Shapes:
            - `lower`, `upper`: $[C]$

        Returns:
            The normalizer.

        Raises:
            ValueError: If the bounds differ in length or `upper` is not above `lower`.
        """
        low = _vector("lower", lower, torch.float64)
        high = _vector("upper", upper, torch.float64)
        if low.shape != high.shape or not bool((high > low).all()):
            raise ValueError(
                "upper must lie above lower in every channel, got "
                f"lower={low.tolist()}, upper={high.tolist()}"
            )
        return cls(*_narrow_if_exact(low, high - low))

    @classmethod
    def identity(cls, num_channels: int) -> "Normalizer":
        """Return the identity map, with shift 0 and scale 1.

        Args:
            num_channels: Number of channels $C$.

        Raises:
            ValueError: If `num_channels` is below one.
        """
        if num_channels < 1:
            raise ValueError(f"num_channels must be at least 1, got {num_channels}")
        return cls([0.0] * num_channels, [1.0] * num_channels)

    @classmethod
    def cat(cls, normalizers: Sequence["Normalizer"]) -> "Normalizer":
        """Concatenate the channels of several normalizers.

        Args:
            normalizers: The parts, in the order of their channels. Their statistics
                are copied.

        Raises:
            ValueError: If `normalizers` is empty.
        """
        if not normalizers:
            raise ValueError("normalizers is empty: pass at least one")
        return cls(
            torch.cat([part.shift for part in normalizers]),
            torch.cat([part.scale for part in normalizers]),
        )

    @property
    def num_channels(self) -> int:
        """Number of channels $C$."""
        return self.shift.numel()

    def encode(self, value: Tensor) -> Tensor:
        """Convert a field from its physical units to normalized values.

        Args:
            value: The field in its units.

        Shapes:
            - `value`: $[..., C]$
        """
        self._check(value)
        if value.dtype == torch.bool:  # which torch does not subtract from
            value = value.to(torch.uint8)
        dtype = torch.promote_types(value.dtype, torch.float32)
        return ((value - self.shift) / self.scale).to(dtype)

    def decode(self, value: Tensor) -> Tensor:
        """Convert normalized values to the units of the field; the inverse of `encode`.

        Args:
            value: The normalized field.

        Shapes:
            - `value`: $[..., C]$

        Returns:
            The field in at least single precision; in double precision if the
            statistics are.
        """
        self._check(value)
        # Not cast to the dtype of the value: statistics in double precision mean that
        # single precision would round the field.
        dtype = torch.promote_types(value.dtype, torch.float32)
        return value.to(dtype) * self.scale + self.shift

    def _check(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(f"value is {brief(value)}, expected a torch.Tensor")
        # Without this check, a single channel would broadcast to any last dimension.
        if value.dim() == 0 or value.size(-1) != self.num_channels:
            raise ValueError(
                f"value has shape {tuple(value.shape)}, expected its last dimension "
                f"to hold {self.num_channels} channels"
            )

    def _apply(
        self, fn: Callable[[Tensor], Tensor], recurse: bool = True
    ) -> "Normalizer":
        # Casting a network to a narrower dtype must not round the statistics.
        exact = dict(self.named_buffers())
        try:
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        except TypeError:  # the device does not support float64
            for name, buffer in exact.items():
                setattr(self, name, buffer.float())
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
            exact = dict(self.named_buffers())
        for name, buffer in self.named_buffers():
            before = exact[name]
            if torch.finfo(buffer.dtype).bits < torch.finfo(before.dtype).bits:
                setattr(self, name, before.to(buffer.device))
        return self

    def extra_repr(self) -> str:
        """Return the statistics for `repr`."""
        return f"shift={self.shift.tolist()}, scale={self.scale.tolist()}"


def _narrow_if_exact(shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return statistics in float32 if encoded and decoded values keep their digits."""
    rounding = (shift.float().double() - shift).abs()
    limits = torch.finfo(torch.float32)
    exact = (
        (rounding <= _LARGEST_SHIFT * scale)
        & (shift.abs() <= _LARGEST_OFFSET * scale)
        & (scale > limits.tiny)
        & (scale < limits.max)
    )
    return (shift.float(), scale.float()) if bool(exact.all()) else (shift, scale)


def _vector(
    name: str, values: Tensor | Sequence[float], dtype: torch.dtype = torch.float32
) -> Tensor:
    """Return a detached copy, so that the caller's tensor does not become a buffer."""
    if isinstance(values, Tensor):
        if dtype == torch.float32 and values.is_floating_point():
            return values.detach().clone()
        return values.to(dtype)
    try:
        return torch.tensor(values, dtype=dtype)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{name} is {brief(values)}, expected one number per channel"
        ) from error
