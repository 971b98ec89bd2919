"""Names and units of fields: what the columns of a target or of an input are."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch_geometric_flare._arguments import brief


@dataclass(frozen=True)
class Field:
    """A physical quantity at points.

    Args:
        name: What data sets, checkpoints, metrics and files call it, a Python
            identifier such as `wall_shear_stress`.
        channels: Components at each point: 1 for a scalar, 3 for a vector in space.
        unit: Unit, such as `"m²/s²"`; empty where there is none.

    Raises:
        ValueError: If `name` is no identifier or `channels` is below one.
    """

    name: str
    channels: int = 1
    unit: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise ValueError(
                f"name is {self.name!r}, expected a Python identifier such as "
                "'wall_shear_stress'"
            )
        if (
            isinstance(self.channels, bool)
            or not isinstance(self.channels, int)
            or self.channels < 1
        ):
            raise ValueError(
                f"channels is {self.channels!r} for the field {self.name!r}, expected "
                "an integer of at least 1"
            )

        if not isinstance(self.unit, str):
            raise TypeError(
                f"unit is {brief(self.unit)} for the field {self.name!r}, expected "
                "text such as 'm²/s²'"
            )

    def __str__(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name


Fields = tuple[Field, ...]


def num_channels(fields: Iterable[Field]) -> int:
    """Return the number of columns that all fields take together."""
    return sum(field.channels for field in fields)


def channel_slices(fields: Iterable[Field]) -> dict[str, slice]:
    """Return the columns of each field where all stand side by side, in order.

    Args:
        fields: Fields of different names.

    Returns:
        The columns of each field, by name.

    Raises:
        ValueError: If two fields have the same name.
    """
    slices: dict[str, slice] = {}
    start = 0
    for field in fields:
        if field.name in slices:
            raise ValueError(f"two fields are called {field.name!r}: rename one")
        slices[field.name] = slice(start, start + field.channels)
        start += field.channels
    return slices


def choose_fields(names: Sequence[str], available: Fields) -> Fields:
    """Return the fields of these names, in this order.

    Args:
        names: Names of fields, each once.
        available: What there is to choose from.

    Raises:
        ValueError: If `names` is empty or no sequence of different names of them.
    """
    by_name = {field.name: field for field in available}
    is_list = not isinstance(names, str) and len(names) > 0
    if not is_list or len(set(names)) < len(names) or not set(names) <= set(by_name):
        raise ValueError(
            f"fields must be a tuple of names among {list(by_name)}, each once, got "
            f"{names!r}."
        )
    return tuple(by_name[name] for name in names)
