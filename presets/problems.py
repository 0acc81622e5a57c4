"""Sentences for faults in a preset: msgspec's validation errors, reworded with the schema's types. No files."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, TypeAlias, TypeVar

import msgspec
from msgspec import Struct, inspect

KeyPath: TypeAlias = tuple[str | int, ...]
_Kind = TypeVar("_Kind")
_PATH = re.compile(r" - at `\$(.*)`$", re.DOTALL)
_UNKNOWN_KEY = re.compile(r"Object contains unknown field `([\w.-]{1,100})`")
_UNKNOWN_CHOICE = re.compile(r"Invalid (?:enum )?value ")
_MISSING = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_CHOOSERS = ("network", "name", "op")
_MOST_UNKNOWN = 100
_ANY_NUMBER = 1e9
"""An upper limit from here on only keeps numbers storable, and is not mentioned."""
_PATH_PART = re.compile(r"\.([^.\[]+)|\[(\d+)\]")


class Fault(Struct, frozen=True):
    """Something wrong at a key. `text` is a clause that names the key itself."""

    text: str
    keys: tuple[KeyPath, ...]
    """The keys whose values do not go together; none if the file as a whole lacks something."""


def explain(error: msgspec.ValidationError, table: dict[str, Any], schema: type, whole: str = "a preset") -> Fault:
    """Explain an error of `msgspec.convert(table, schema)`: value, key, allowed values; `whole` is the table."""
    found = _PATH.search(str(error))
    node: inspect.Type = inspect.type_info(schema)
    value: Any = table
    path: list[str | int] = []
    for name, index in _PATH_PART.findall(found.group(1) if found else ""):
        if name and isinstance(value, dict) and name == _chooser(node):
            return _wrong_choice((*path, name), [str(tag) for tag in _tags(node)], value.get(name))
        part: str | int = name or int(index)
        below = _below(_alternative(node, value), part)
        if below is None:
            break
        node, value = below, value[part]
        path.append(part)
    if isinstance(value, dict) and _structs(node):
        return _wrong_table(node, value, tuple(path), str(error), whole)
    return _wrong_value(node, value, tuple(path))


def is_unknown(error: Exception) -> bool:
    """Return true if a key, or a value out of a list of allowed ones, is not known: a newer version may know it."""
    text = str(error)
    return isinstance(error, msgspec.ValidationError) and bool(_UNKNOWN_KEY.match(text) or _UNKNOWN_CHOICE.match(text))


def without_unknown(table: Any, schema: type[_Kind], stand_ins: Mapping[str, Any]) -> tuple[_Kind, dict[str, Any]]:
    """Convert what a newer version wrote, as far as it is understood here.

    Args:
        table: builtin values; changed in place.
        schema: of the result.
        stand_ins: values, by dotted path, for required keys whose own value is not known.

    Returns:
        The result, and by dotted path what was left out.

    Raises:
        msgspec.ValidationError: something else is wrong in it.
    """
    left_out: dict[str, Any] = {}
    while True:
        try:
            return msgspec.convert(table, schema), left_out
        except msgspec.ValidationError as error:
            path = _path_of_unknown(str(error), stand_ins.keys() & left_out.keys())
            if not path or len(left_out) >= _MOST_UNKNOWN:
                raise
            node, key = table, dotted(path)
            for part in path[:-1]:
                node = node[part]
            if key in left_out:
                node[path[-1]] = stand_ins[key]
            else:
                left_out[key] = node.pop(path[-1])


def _path_of_unknown(text: str, replaceable: Set[str]) -> list[str | int]:
    """Return what to leave out, or to replace, after an error of msgspec's; empty if it is about something else."""
    found = _PATH.search(text)
    path: list[str | int] = [name or int(index) for name, index in _PATH_PART.findall(found.group(1) if found else "")]
    said = text[: found.start()] if found else text
    if unknown := _UNKNOWN_KEY.fullmatch(said):
        return [*path, unknown.group(1)]
    if missing := _MISSING.fullmatch(said):
        path.append(missing.group(1))
        return path if dotted(path) in replaceable else []
    if not _UNKNOWN_CHOICE.match(said) or not path:
        return []
    chosen = path[:-1] if path[-1] in _CHOOSERS else path  # what it chooses is not known as a whole
    return [] if dotted(chosen) in replaceable else chosen


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Return '; did you mean "half"?' if one of `allowed` is near, else nothing."""
    close = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else ""


def dotted(path: Sequence[str | int]) -> str:
    """Return a path as in `train.augment[0].size`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{printable(part)}" for part in path)
    return text.removeprefix(".")


def printable(text: str, longest: int = 200) -> str:
    """Return text that any terminal can show on one line."""
    safe = text if text.isprintable() else ascii(text)[1:-1]
    return safe if len(safe) <= longest else f"{safe[: longest - 1]}…"


def shown(value: object) -> str:
    """Return a TOML value as a sentence can quote it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{printable(value, longest=40)}"'
    if isinstance(value, int | float):
        try:
            return printable(str(value), longest=40)
        except ValueError:  # Python refuses to print integers of more than 4300 digits
            return "a huge number"
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    return "a date or time"


def choices(options: Sequence[str]) -> str:
    """Return '"a", "b" or "c"'."""
    quoted = [f'"{option}"' for option in options]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def _fault(path: KeyPath, text: str) -> Fault:
    return Fault(f"{dotted(path) or 'the preset'} {text}", (path,))


def _wrong_table(node: inspect.Type, table: dict[str, Any], path: KeyPath, original: str, whole: str) -> Fault:
    chooser = _chooser(node)
    if chooser and chooser not in table:
        keys = (path,) if len(path) > 1 else ()
        return _missing((*path, chooser), choices([str(tag) for tag in _tags(node)]), keys)
    struct = _alternative(node, table)
    if not isinstance(struct, inspect.StructType):
        return _fault(path, f"is not as it should be ({printable(original)}).")
    allowed = {field.encode_name: field for field in struct.fields}
    names = [*([chooser] if chooser else []), *allowed]
    for key in table:
        if key not in names:
            place = f"of [{dotted(path)}]" if path else f"at the top of {whole}"
            where = f" with {chooser} = {shown(struct.tag)}" if chooser and path else ""
            return _unknown_key(path, key, names, place + where)
    for name, field in allowed.items():
        if field.required and name not in table:
            return _missing((*path, name), _described(field.type), ((*path, chooser),) if chooser else ())
    return _fault(path, f"is not as it should be ({printable(original)}).")


def _unknown_key(path: KeyPath, key: str, keys: list[str], place: str) -> Fault:
    hint = nearest(key, keys) or f"; the keys are {', '.join(keys)}."
    return _fault((*path, key), f"is not a key {place}{hint}")


def _missing(path: KeyPath, allowed: str, keys: tuple[KeyPath, ...]) -> Fault:
    return Fault(f"{dotted(path)} is missing; it must be {allowed}.", keys)


def _wrong_choice(path: KeyPath, options: list[str], value: object) -> Fault:
    hint = nearest(value, options) if isinstance(value, str) else ""
    return _fault(path, f"must be {choices(options)}, not {shown(value)}{hint or '.'}")


def _wrong_value(node: inspect.Type, value: object, path: KeyPath) -> Fault:
    if isinstance(node, inspect.LiteralType):
        return _wrong_choice(path, [str(option) for option in node.values], value)
    if isinstance(value, dict) and (wrong := _wrong_entry(node, value)) is not None:
        return _wrong_value(wrong[1], value[wrong[0]], (*path, wrong[0]))
    got = shown(value)
    if isinstance(value, list):
        got = f"a list of {len(value)}" if value else "an empty list"
    elif value == "":
        got = "empty"
    return _fault(path, f"must be {_described(node)}, not {got}.")


def _wrong_entry(node: inspect.Type, table: dict[str, Any]) -> tuple[str, inspect.Type] | None:
    """Return the first key of a table of numbers whose value is none, or out of range; msgspec does not name it."""
    kinds = node.types if isinstance(node, inspect.UnionType) else (node,)
    for kind in kinds:
        if isinstance(kind, inspect.DictType) and isinstance(kind.value_type, inspect.FloatType):
            numbers, above = kind.value_type, kind.value_type.gt or 0.0
            for key, value in table.items():
                if isinstance(value, bool) or not isinstance(value, int | float) or not value > above:
                    return key, numbers
    return None


def _described(node: inspect.Type) -> str:
    match node:
        case inspect.LiteralType():
            return choices([str(value) for value in node.values])
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return f"a whole number {_range(node)}".rstrip()
        case inspect.FloatType():
            return f"a number {_range(node)}".rstrip()
        case inspect.StrType():
            return f"text of at most {node.max_length} characters" if node.max_length else "text in quotes"
        case inspect.VarTupleType():
            kind = "a non-empty list" if node.min_length else "a list"
            return f"{kind}, each item {_described(node.item_type)}"
        case inspect.TupleType():
            return f"a list of {len(node.item_types)}, each item {_described(node.item_types[0])}"
        case inspect.DictType():
            return f"a table, each value {_described(node.value_type)}"
        case inspect.UnionType() if not _structs(node):
            return " or ".join(_described(kind) for kind in node.types if not isinstance(kind, inspect.NoneType))
        case _:
            chooser = _chooser(node)
            return f"a table with {chooser} = {choices([str(tag) for tag in _tags(node)])}" if chooser else "a table"


def _range(node: inspect.IntType | inspect.FloatType) -> str:
    largest = node.le if node.le is not None and node.le < _ANY_NUMBER else None
    if node.ge is not None and largest is not None:
        return f"from {node.ge:g} to {largest:g}" if largest < 1e5 else f"from {node.ge:g} to {largest:,}"
    bounds = (("above", node.gt), ("of at least", node.ge), ("below", node.lt), ("of at most", largest))
    return " and ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)


def _structs(node: inspect.Type) -> list[inspect.StructType]:
    kinds = node.types if isinstance(node, inspect.UnionType) else (node,)
    return [kind for kind in kinds if isinstance(kind, inspect.StructType)]


def _chooser(node: inspect.Type) -> str | None:
    """Return the key that decides between the tables allowed at `node`: network, name, op."""
    structs = _structs(node)
    return structs[0].tag_field if structs else None


def _tags(node: inspect.Type) -> list[str | int]:
    return [struct.tag for struct in _structs(node) if struct.tag is not None]


def _alternative(node: inspect.Type, value: object) -> inspect.Type:
    """Return the one of a union's types that `value` means to be."""
    if not isinstance(node, inspect.UnionType):
        return node
    if isinstance(value, dict):
        named = [struct for struct in _structs(node) if value.get(struct.tag_field or "") == struct.tag]
        return named[0] if named else node
    return node


def _below(node: inspect.Type, part: str | int) -> inspect.Type | None:
    match node:
        case inspect.StructType():
            return next((field.type for field in node.fields if field.encode_name == part), None)
        case inspect.VarTupleType():
            return node.item_type
        case inspect.TupleType() if isinstance(part, int):
            return node.item_types[part]
        case _:
            return None
