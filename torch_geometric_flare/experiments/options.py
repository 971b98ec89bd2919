"""Dataclasses as command-line options and as YAML files.

Both are derived from the fields: each field is an option of the same name, its entry
under `Args:` in the docstring of the class is the help text, and a field that is itself
a dataclass contributes its own fields.
"""

import inspect
import re
from argparse import ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_type_hints

import yaml
from jsonargparse import ActionYesNo, ArgumentParser

from torch_geometric_flare._arguments import expand_path

Config = TypeVar("Config", bound="Options")


@dataclass(frozen=True)
class Options:
    """Base class of dataclasses that are built from a command line or a YAML file.

    The metadata of a field may have the type that the option `accepts`, if it differs
    from the type of the field.
    """

    no_option: ClassVar[tuple[str, ...]] = ()
    """Names of fields that are not options, including those of nested dataclasses."""

    @classmethod
    def parser(
        cls,
        description: str,
        *,
        prog: str | None = None,
        defaults: Mapping[str, Any] | None = None,
        hidden: Sequence[str] = (),
        aliases: Mapping[str, str] | None = None,
    ) -> ArgumentParser:
        """Return the parser of a command line.

        Args:
            description: First line of the help text.
            prog: Name of the command; that of the script by default.
            defaults: Defaults by option that override those of the fields.
            hidden: Options to omit from the help text.
            aliases: Alternative names of options.
        """
        parser = ArgumentParser(prog=prog, description=description, exit_on_error=False)
        parser.add_argument(
            "--config",
            action="config",
            help="YAML file of options; later options on the command line override it",
        )
        for name, entry, kind, text in _fields(cls):
            if name in cls.no_option:
                continue
            default = (defaults or {}).get(name, entry.default)
            keywords: dict[str, Any] = {"default": default, "type": kind}
            if default is MISSING:
                keywords = {"required": True, "type": kind}
            elif kind is bool:
                keywords = {"default": default, "action": ActionYesNo(no_prefix="no-")}
            if name in hidden:
                text = "==SUPPRESS=="
            flags = [f"--{name.replace('_', '-')}"]
            if name in (aliases or {}):
                flags.append(f"--{(aliases or {})[name]}")
            parser.add_argument(*flags, help=text, **keywords)
        return parser

    @classmethod
    def load(cls: type[Config], path: str | Path) -> Config:
        """Read a YAML file.

        Args:
            path: The file; options with a default may be omitted.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If it has an unknown option or an invalid value; the message
                names it.
        """
        path = expand_path(path)
        if not path.is_file():
            raise FileNotFoundError(f"path={str(path)!r} is not a file")
        return cls.from_options(parse_with_file(cls.parser(""), path, []))

    def save(self, path: str | Path) -> None:
        """Write a YAML file that `load` reads.

        Args:
            path: The file.
        """
        text = yaml.safe_dump(self.to_options(), sort_keys=False, allow_unicode=True)
        expand_path(path).write_text(text, encoding="utf-8")

    @classmethod
    def from_options(cls: type[Config], values: Mapping[str, Any]) -> Config:
        """Return an instance with these values.

        Args:
            values: Values by option; omitted options have their defaults.
        """
        built: Config = _build(cls, values)
        return built

    def to_options(self) -> dict[str, Any]:
        """Return all options by name, as plain values."""
        return {
            name: _plain(value)
            for name, value in _flat(self)
            if name not in self.no_option
        }


def parse(parser: ArgumentParser, arguments: Sequence[str]) -> dict[str, Any]:
    """Parse a command line into values by option.

    Args:
        parser: A parser from `Options.parser`, possibly with further options.
        arguments: The command line.

    Raises:
        ValueError: If an option or its value is invalid; the message is one sentence.
    """
    try:
        values: dict[str, Any] = parser.parse_args(list(arguments)).as_dict()
    except (ArgumentError, UnicodeDecodeError) as error:
        text = str(error)
        name = re.search(r'Parser key "(\w+)":', text)
        value = re.search(r"(?:Given|Got) value: (.*)", text)
        kind = re.search(r"(?:Subtypes: |Expected an? )(.*?)(?:\. Got|\n|$)", text)
        if name and value and kind:
            option = f"--{name[1].replace('_', '-')}"
            expected = re.sub(r"<class '(\w+)'>|typing\.", r"\1", kind[1])
            expected = expected.strip("[]").replace(", NoneType", " or null")
            text = f"{option} is {value[1]}, expected {expected}"
        elif "unrecognized" in text or "not accepted" in text:
            text += "; --help lists the options"
        elif "Unexpected config" in text:
            text = "the file has no lines `option: value`"
        for file in _config_files(arguments):
            text += f" (with the options in {file!r})" if file not in text else ""
        raise ValueError(" ".join(text.split())) from error
    del values["config"]
    return values


def parse_with_file(
    parser: ArgumentParser, file: Path, arguments: Sequence[str]
) -> dict[str, Any]:
    """Parse a file and a command line, which takes precedence, into values by option.

    Args:
        parser: As for `parse`.
        file: A YAML file.
        arguments: The command line.

    Raises:
        ValueError: As for `parse`; the message also names the file.
    """
    return parse(parser, [f"--config={file}", *arguments])


def _config_files(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the configuration files on a command line."""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        option, _, value = argument.partition("=")
        if option == "--config":
            yield value or following


def _fields(cls: type[Any]) -> Iterator[tuple[str, Field[Any], Any, str]]:
    """Yield name, field, type and help text of each option."""
    hints, texts = get_type_hints(cls), _help_texts(cls)
    for entry in fields(cls):
        kind = hints[entry.name]
        if is_dataclass(kind):
            assert isinstance(kind, type)
            yield from _fields(kind)
        else:
            accepted_type = entry.metadata.get("accepts", kind)
            yield entry.name, entry, accepted_type, texts[entry.name]


def _help_texts(cls: type[Any]) -> dict[str, str]:
    """Return the docstring entry of each argument, without markup."""
    text = inspect.getdoc(cls) or ""
    section = text.partition("\nArgs:\n")[2].partition("\n\n")[0]
    entries = re.split(r"^    (\w+): ", section, flags=re.MULTILINE)[1:]
    texts = {
        name: " ".join(body.split())
        for name, body in zip(entries[::2], entries[1::2], strict=True)
    }
    return {
        entry.name: texts.get(entry.name, "").replace("`", "").removesuffix(".")
        for entry in fields(cls)
    }


def _build(cls: Any, values: Mapping[str, Any]) -> Any:
    hints = get_type_hints(cls)
    arguments = {}
    for entry in fields(cls):
        if is_dataclass(hints[entry.name]):
            arguments[entry.name] = _build(hints[entry.name], values)
        elif entry.name in values:
            arguments[entry.name] = values[entry.name]
    return cls(**arguments)


def _flat(config: Any) -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(type(config))
    for entry in fields(config):
        value = getattr(config, entry.name)
        if is_dataclass(hints[entry.name]):
            yield from _flat(value)
        else:
            yield entry.name, value


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return getattr(value, "name", None) or str(value)  # a benchmark, or a path
