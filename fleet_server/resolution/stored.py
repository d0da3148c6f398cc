"""JSON in the database as dataclasses, and back. Pure.

Reading is strict: a value of the wrong type, a missing one and a key that the dataclass does not have all raise
``BadInput``, so that nothing which decides about a case can vanish unseen. A null where a field has a default is read
as absent, as earlier versions wrote it. Writing leaves out what has its default, but for fields marked ``WRITTEN``.
``check_answer`` reads what another system answered as strictly, before anything of it is written down.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, time
from functools import cache
from types import MappingProxyType, UnionType
from typing import TypeVar, get_args, get_type_hints

import msgspec

from fleet_core.errors import BadInput

T = TypeVar("T")
WRITTEN: Mapping[str, bool] = MappingProxyType({"written": True})
"""Metadata of a field that is written although it has its default: readers of the JSON look for it."""
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""A NUL in JSON text, which the database cannot hold; not a backslash that is followed by ``u0000``."""


def read_stored(value: object, into: type[T], what: str) -> T:
    """``value`` (parsed JSON) as the dataclass ``into``; times are ISO 8601 text with an offset.

    Raises BadInput, which names ``what`` was read and where in it the fault lies.
    """
    try:
        found = msgspec.convert(_without_nulls(value, into), type=into)
    except msgspec.ValidationError as error:
        raise BadInput(what, str(error)) from None
    unknown = _unknown(value, to_stored(found, whole=True))
    if unknown:
        raise BadInput(what, f"unknown key {unknown!r}")
    return found


def to_stored(value: object, *, whole: bool = False) -> object:
    """The JSON value of a dataclass: times as ISO 8601 text, fields that have their default left out.

    ``whole`` keeps the fields that have their default.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((one, getattr(value, one.name)) for one in dataclasses.fields(value))
        kept = ((one, item) for one, item in pairs if whole or one.metadata == WRITTEN or item != _default(one))
        return {one.name: to_stored(item, whole=whole) for one, item in kept}
    if isinstance(value, Mapping):
        return {_as_text(name): to_stored(item, whole=whole) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [to_stored(item, whole=whole) for item in value]
    return value.isoformat() if isinstance(value, datetime) else value


def table_of(value: object) -> dict[str, object]:
    """``to_stored`` of a dataclass, as the JSON object it is."""
    stored = to_stored(value)
    assert isinstance(stored, dict)  # a dataclass is written as an object
    return stored


def json_text(value: object, what: str, *, finite: bool = True) -> str:
    """The JSON text of a value for the database; times are ISO 8601, ids and numbers of other kinds text.

    Raises BadInput, which names ``what`` it is, for what the database cannot hold: numbers that are not finite (let
    pass unless ``finite``), NULs, halves of characters.
    """
    try:
        text = json.dumps(value, default=_as_text, allow_nan=not finite, ensure_ascii=False)
        text.encode()
    except (ValueError, TypeError, RecursionError) as error:  # a UnicodeEncodeError is a ValueError
        raise BadInput(what, f"it cannot be written as JSON: {storable(str(error))}") from None
    if _NUL.search(text):
        raise BadInput(what, "it has a text with a NUL in it")
    return text


def check_answer(answer: object, into: object, what: str, *, finite: bool = True) -> None:
    """Raises BadInput, which names ``what`` was answered, unless ``answer`` is an ``into`` to the last field.

    Its types are those the dataclass declares, its times have an offset, and its numbers are finite (unless
    ``finite`` is False).
    """
    stored = json.loads(json_text(to_stored(answer, whole=True), what, finite=finite))
    try:
        msgspec.convert(stored, type=into)
    except msgspec.ValidationError as error:
        raise BadInput(what, str(error)) from None


def storable(text: str) -> str:
    """A text without what the database cannot hold; errors quote hostile input."""
    return text.encode(errors="replace").decode().replace("\x00", "\ufffd")


def _as_text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime | time) else str(value)


def _default(one: dataclasses.Field[object]) -> object:
    """The field's default; the field itself, which no value equals, when it has none."""
    if one.default_factory is not dataclasses.MISSING:
        return one.default_factory()
    return one if one.default is dataclasses.MISSING else one.default


def _without_nulls(value: object, wanted: object) -> object:
    """``value`` without the nulls that stand for a field's default; what has no declared fields is left as it is."""
    if dataclasses.is_dataclass(wanted) and isinstance(wanted, type):
        if not isinstance(value, Mapping):
            return value
        hints = _hints(wanted)
        absent = {one.name for one in dataclasses.fields(wanted) if _default(one) is not one}
        left = ((name, item) for name, item in value.items() if item is not None or name not in absent)
        return {name: _without_nulls(item, hints.get(name)) for name, item in left}
    inner = get_args(wanted)
    if inner[1:] == (...,) and isinstance(value, list | tuple):
        return [_without_nulls(item, inner[0]) for item in value]
    if isinstance(wanted, UnionType):
        return _without_nulls(value, inner[0])  # of what may be absent None is the last type, the linter sees to it
    return value


@cache
def _hints(of: type) -> Mapping[str, object]:
    return get_type_hints(of)


def _unknown(given: object, known: object, where: str = "") -> str:
    """The path of the first key of ``given`` that ``known`` has not; "" when there is none."""
    match given, known:
        case Mapping() as table, Mapping() as known_table:
            for name, item in table.items():
                if name not in known_table:
                    return f"{where}{name}"
                if found := _unknown(item, known_table[name], f"{where}{name}."):
                    return found
        case [*items], [*known_items]:
            for number, (item, known_item) in enumerate(zip(items, known_items, strict=True)):
                if found := _unknown(item, known_item, f"{where}{number}."):
                    return found
    return ""
