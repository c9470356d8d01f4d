"""From text to typed values: plain values (YAML, command line) become the fields of plain dataclasses, or one clear line says why not.

OmegaConf's structured configs do most of this, but know neither `Literal` nor tuples, and their messages speak of nodes, not of keys.
"""

import dataclasses
import re
import types
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from imagoal.errors import UserError, nearest

NOTHING = ("", "none", "null", "~")
EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


def build(owner: type, values: dict[str, Any], where: str, help_line: str = "") -> Any:
    """`owner(**values)` with every value converted to its field's annotation.

    where: the dotted key of this dataclass ("" at the top), used in messages.
    Raises UserError for a key that is not a field, a value of the wrong type, and what the dataclass itself refuses (ValueError).
    """
    hints = get_type_hints(owner)
    fields = {f.name: f for f in dataclasses.fields(owner) if f.init}
    converted = {}
    for name, value in values.items():
        key = f"{where}.{name}" if where else name
        if name not in fields:
            raise unknown_key(key, name, fields, where, help_line)
        converted[name] = convert(value, hints[name], key, help_line)
        check_limits(converted[name], fields[name].metadata, key, help_line)
    try:
        return owner(**converted)
    except (ValueError, AssertionError) as error:
        raise UserError(f"{where or 'the configuration'}: {error} {help_line}") from error


def unknown_key(key: str, name: str, known: Any, where: str, help_line: str) -> UserError:
    """The line for a key that does not exist, naming the nearest one that does."""
    hint = nearest(name, known)
    if where:
        hint = hint.replace("did you mean '", f"did you mean '{where}.")
    return UserError(f"unknown key '{key}'{hint} {help_line}")


def convert(value: Any, annotation: Any, key: str, help_line: str = "") -> Any:
    """`value` as the type `annotation` says. Text is read as YAML would, except where the annotation is `str`.

    Raises UserError naming `key`, what is expected and what was given.
    """
    if annotation is Any:
        return yaml_value(value)
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return choose(value, [str(a) for a in args], key, help_line, dict(zip(map(str, args), args, strict=True)))
    if origin in (Union, types.UnionType):
        return convert_union(value, args, key, help_line)
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        if isinstance(value, annotation):
            return value
        return build(annotation, expect(yaml_value(value), dict, "key: value pairs", key, help_line), key, help_line)
    if origin in (tuple, list, dict) or annotation in (tuple, list, dict):
        return convert_collection(value, origin or annotation, args, key, help_line)
    return convert_scalar(value, annotation, key, help_line)


def convert_scalar(value: Any, annotation: Any, key: str, help_line: str) -> Any:
    """A bool, int, float or str; a whole number is accepted as a float, nothing else changes its kind."""
    if annotation is str:
        if isinstance(value, dict | list | tuple):
            raise wrong(value, "text", key, help_line)
        return "" if value is None else str(value)
    plain = yaml_value(value)
    if annotation is bool:
        return expect(plain, bool, "true or false", key, help_line)
    if annotation is int and isinstance(plain, float) and plain.is_integer():
        plain = int(plain)  # 1e5 updates
    if isinstance(plain, bool):
        raise wrong(value, "a number", key, help_line)
    if annotation is int:
        return expect(plain, int, "a whole number", key, help_line)
    if annotation is float:
        return float(expect(plain, int | float, "a number", key, help_line))
    return plain


def convert_union(value: Any, options: tuple[Any, ...], key: str, help_line: str) -> Any:
    """The first member of a union that accepts the value; `none`/`null` where None is a member."""
    if type(None) in options and (value is None or (isinstance(value, str) and value.strip().lower() in NOTHING)):
        return None
    last = wrong(value, "a value", key, help_line)
    for option in options:
        if option is type(None):
            continue
        try:
            return convert(value, option, key, help_line)
        except UserError as error:
            last = error
    raise last


def convert_collection(value: Any, kind: Any, args: tuple[Any, ...], key: str, help_line: str) -> Any:
    """A tuple, list or dict whose members have the annotated types; `1,2` is read as `[1, 2]`."""
    plain = yaml_value(value)
    if kind is dict:
        plain = expect(plain, dict, "key: value pairs such as {a: 1}", key, help_line)
        member = args[1] if args else Any
        return {name: convert(item, member, f"{key}.{name}", help_line) for name, item in plain.items()}
    if isinstance(plain, str):
        plain = [part.strip() for part in plain.split(",") if part.strip()]
    if not isinstance(plain, list | tuple):
        plain = [plain]
    if kind is tuple and args and args[-1] is not Ellipsis:
        if len(plain) != len(args):
            raise wrong(value, f"{len(args)} values such as [..., ...]", key, help_line)
        return tuple(convert(item, member, key, help_line) for item, member in zip(plain, args, strict=True))
    return kind(convert(item, args[0] if args else Any, key, help_line) for item in plain)


def choose(value: Any, words: list[str], key: str, help_line: str, values: dict[str, Any] | None = None) -> Any:
    """One of a fixed set of words."""
    word = str(value).lower() if isinstance(value, bool) else str(value)
    if word not in words:
        raise UserError(f"{key}={word} is not a choice{nearest(word, words)} {help_line}")
    return values[word] if values else word


def check_limits(value: Any, metadata: Any, key: str, help_line: str) -> None:
    """The `choices`, `minimum` and `maximum` a field's metadata may carry."""
    if choices := metadata.get("choices"):
        choose(value, list(choices), key, help_line)
    minimum, maximum = metadata.get("minimum"), metadata.get("maximum")
    if minimum is not None and not value >= minimum:
        raise UserError(f"{key}={value}: must be at least {minimum}. {help_line}")
    if maximum is not None and not value <= maximum:
        raise UserError(f"{key}={value}: must be at most {maximum}. {help_line}")


def yaml_value(value: Any) -> Any:
    """Text as YAML reads it, `1e-3` being a number too (YAML 1.1 takes it for text); other values unchanged."""
    if not isinstance(value, str):
        return value
    if EXPONENT.fullmatch(value.strip()):
        return float(value)
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value


def expect(value: Any, kind: Any, words: str, key: str, help_line: str) -> Any:
    """`value` where it is of `kind`, else the error saying what was expected."""
    if not isinstance(value, kind):
        raise wrong(value, words, key, help_line)
    return value


def wrong(value: Any, words: str, key: str, help_line: str) -> UserError:
    """The line for a value of the wrong type."""
    return UserError(f"{key}={value}: expected {words}, got {value!r}. {help_line}")


def plain(value: Any) -> Any:
    """The reverse of `build`: dataclasses, tuples and numbers as plain YAML values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def type_words(annotation: Any) -> str:
    """An annotation as the help shows it: `whole number`, `a | b`, ..."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(map(str, args))
    if origin in (Union, types.UnionType):
        return " or ".join("none" if a is type(None) else type_words(a) for a in args)
    if origin in (tuple, list):
        return "list of " + type_words(args[0])
    return {bool: "true/false", int: "whole number", float: "number", str: "text"}.get(annotation, "value")
