"""JSON in the database as dataclasses, and back. Pure.

Reading is strict: a value of the wrong type, a missing one and a key that the dataclass does not have all raise
``BadInput``, so that nothing which decides about a case can vanish unseen. Writing leaves out what has its default.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeVar

import msgspec

from fleet_core.errors import BadInput

T = TypeVar("T")


def read_stored(value: object, into: type[T], what: str) -> T:
    """``value`` (parsed JSON) as the dataclass ``into``; times are ISO 8601 text with an offset.

    Raises BadInput, which names ``what`` was read and where in it the fault lies.
    """
    try:
        found = msgspec.convert(value, type=into)
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
        return {one.name: to_stored(item, whole=whole) for one, item in pairs if whole or item != _default(one)}
    if isinstance(value, Mapping):
        return {str(name): to_stored(item, whole=whole) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [to_stored(item, whole=whole) for item in value]
    return value.isoformat() if isinstance(value, datetime) else value


def table_of(value: object) -> dict[str, object]:
    """``to_stored`` of a dataclass, as the JSON object it is."""
    stored = to_stored(value)
    assert isinstance(stored, dict)  # a dataclass is written as an object
    return stored


def _default(one: dataclasses.Field[object]) -> object:
    """The field's default; the field itself, which no value equals, when it has none."""
    if one.default_factory is not dataclasses.MISSING:
        return one.default_factory()
    return one if one.default is dataclasses.MISSING else one.default


def _unknown(given: object, known: object, where: str = "") -> str:
    """The path of the first key of ``given`` that ``known`` has not; "" when there is none."""
    if isinstance(given, Mapping) and isinstance(known, Mapping):
        for name, item in given.items():
            if name not in known:
                return f"{where}{name}"
            if found := _unknown(item, known[name], f"{where}{name}."):
                return found
    elif isinstance(given, Sequence) and not isinstance(given, str) and isinstance(known, Sequence):
        for number, (left, right) in enumerate(zip(given, known, strict=True)):
            if found := _unknown(left, right, f"{where}{number}."):
                return found
    return ""
