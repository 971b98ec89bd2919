"""Names and units of fields: what the columns of a target or of an input are."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from torch_geometric_flare._arguments import brief


@dataclass(frozen=True)
class Field:
    """A physical quantity at points.

    Args:
        name: What data sets, checkpoints, metrics and files call it, a Python
            identifier such as `wall_shear_stress`.
        channels: Components at each point: 1 for a scalar, 3 for a vector in space.
        unit: Unit, such as `"m²/s²"`; empty where there is none.
        source: Name of the array in files that the field is read from, anything that a
            solver writes, such as `"static-pressure (Pa)"`; empty where that is `name`.

    Raises:
        ValueError: If `name` is not an identifier or `channels` is below one.
    """

    name: str
    channels: int = 1
    unit: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise ValueError(
                f"name is {self.name!r}, expected a Python identifier such as "
                "'wall_shear_stress'; the name of an array in a file is its source: "
                f"Field({_identifier(str(self.name))!r}, source={self.name!r})"
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
        if not isinstance(self.source, str):
            raise TypeError(
                f"source is {brief(self.source)} for the field {self.name!r}, expected "
                "the name of an array"
            )

    @classmethod
    def read_from(cls, text: str) -> "Field":
        """Return the field of one channel that a text names.

        Args:
            text: The name of an array, such as `static-pressure (Pa)`, whose field is
                then called `static_pressure_Pa`; or a name of the field before it, as
                in `pressure=static-pressure (Pa)`.

        Raises:
            ValueError: If the text is empty or the name before `=` no identifier.
        """
        if not text.strip():
            raise ValueError(f"name is {text!r}, expected that of an array")
        name, sign, source = text.partition("=")
        if sign and name.strip().isidentifier() and source:
            return cls(name.strip(), source=source)
        name = text if text.isidentifier() else _identifier(text)
        return cls(name, source="" if name == text else text)

    def to_dict(self) -> dict[str, str | int]:
        """Return plain values that rebuild the field; `source` where it has one."""
        plain: dict[str, str | int] = {
            "name": self.name,
            "channels": self.channels,
            "unit": self.unit,
        }
        return {**plain, "source": self.source} if self.source else plain

    @property
    def array(self) -> str:
        """Name of the array in files: `source`, or else `name`."""
        return self.source or self.name

    def __str__(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name


Fields = tuple[Field, ...]


def read_fields(text: str) -> Fields:
    r"""Return the fields that an option of a command line names.

    Args:
        text: As of `Field.read_from`, separated by commas; `\,` is a comma in the name
            of an array.

    Raises:
        ValueError: As `Field.read_from`.
    """
    parts = re.split(r"(?<!\\),", text)
    return tuple(Field.read_from(part.replace("\\,", ",")) for part in parts)


def choose_arrays(fields: Fields, arrays: Fields) -> Fields:
    """Return fields that are read from other arrays.

    Args:
        fields: The fields.
        arrays: Some of them by name, with other sources.

    Raises:
        ValueError: If one of `arrays` is none of the fields.
    """
    sources = {field.name: field.array for field in arrays}
    unknown = set(sources) - {field.name for field in fields}
    if unknown:
        raise ValueError(
            f"{min(unknown)!r} is none of {[field.name for field in fields]}"
        )
    return tuple(
        replace(field, source=sources.get(field.name, field.source)) for field in fields
    )


def _identifier(text: str) -> str:
    """Return a name that is like a text."""
    # Letters of identifiers alone: `\w` has others too, such as "²".
    kept = "".join(char if f"_{char}".isidentifier() else "_" for char in text)
    name = re.sub("_+", "_", kept).strip("_") or "field"
    return name if name.isidentifier() else f"field_{name}"


def num_channels(fields: Iterable[Field]) -> int:
    """Return the number of columns that all fields take together."""
    return sum(field.channels for field in fields)


def channel_names(fields: Iterable[Field]) -> list[str]:
    """Return a name for each channel: the field's, with a number if it has several."""
    return [
        f"{field.name}[{channel}]" if field.channels > 1 else field.name
        for field in fields
        for channel in range(field.channels)
    ]


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
            raise ValueError(
                f"two fields are called {field.name!r}: rename one, as "
                f"Field(name, source={field.array!r})"
            )
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
