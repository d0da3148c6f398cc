"""Dataclasses as JSON in the database: nothing is lost, nothing unknown is read, nothing unfit is written."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from typing import Any, cast

import pytest

from fleet_core.errors import BadInput
from fleet_server.connectors.times import Instant
from fleet_server.resolution.stored import (
    WRITTEN,
    check_answer,
    json_text,
    read_stored,
    storable,
    table_of,
    to_stored,
)

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
NOON_TEXT = "2026-01-05T12:00:00+00:00"


@dataclass(frozen=True)
class Tool:
    """``name`` must be given."""

    name: str
    maker: str = "unknown"


@dataclass(frozen=True)
class Box:
    """Everything a stored dataclass may have."""

    place: str
    first: Tool | None = None
    tools: tuple[Tool, ...] = ()
    pair: tuple[Instant, str] | None = None
    opened: Instant | None = None
    counts: dict[str, int] = field(default_factory=dict)
    paper: object = field(default_factory=dict)
    colour: str = field(default="red", metadata=WRITTEN)


@dataclass(frozen=True)
class Shelf:
    """``level`` 0 is the floor."""

    level: int = 0


@dataclass(frozen=True)
class Named:
    """Only texts."""

    name: str


FULL = Box("Bremen", Tool("saw", "Ada"), (Tool("axe"), Tool("awl", "Bo")), (NOON, "x"), NOON, {"a": 1}, [None], "blue")
FULL_JSON: dict[str, Any] = {
    "place": "Bremen",
    "first": {"name": "saw", "maker": "Ada"},
    "tools": [{"name": "axe"}, {"name": "awl", "maker": "Bo"}],
    "pair": [NOON_TEXT, "x"],
    "opened": NOON_TEXT,
    "counts": {"a": 1},
    "paper": [None],
    "colour": "blue",
}


def test_what_has_its_default_is_left_out_unless_readers_look_for_it() -> None:
    assert to_stored(FULL) == FULL_JSON
    assert to_stored(Box("Bremen")) == {"place": "Bremen", "colour": "red"}
    assert table_of(Tool("saw")) == {"name": "saw"}


def test_a_whole_dataclass_has_its_defaults_too_however_deep() -> None:
    assert to_stored({"boxes": [Tool("saw")]}, whole=True) == {"boxes": [{"name": "saw", "maker": "unknown"}]}
    assert to_stored(Box("Bremen", tools=(Tool("axe"),)), whole=True) == {
        "place": "Bremen",
        "first": None,
        "tools": [{"name": "axe", "maker": "unknown"}],
        "pair": None,
        "opened": None,
        "counts": {},
        "paper": {},
        "colour": "red",
    }


def test_names_of_a_table_become_text() -> None:
    assert to_stored({NOON: 1, 7: (2,), time(6, 30): "early"}) == {NOON_TEXT: 1, "7": [2], "06:30:00": "early"}


def test_what_was_stored_is_read_again() -> None:
    assert read_stored(FULL_JSON, Box, "box") == FULL
    assert read_stored({"place": "Bremen"}, Box, "box") == Box("Bremen")


def test_a_null_is_absent_where_there_is_a_default_and_a_value_where_anything_may_stand() -> None:
    nulls = {"place": "Bremen", "first": None, "tools": None, "counts": None, "paper": None, "colour": None}
    assert read_stored(nulls, Box, "box") == Box("Bremen")
    tool = {"name": "saw", "maker": None}
    inner = {"place": "Bremen", "first": tool, "tools": [tool, tool]}
    assert read_stored(inner, Box, "box") == Box("Bremen", Tool("saw"), (Tool("saw"), Tool("saw")))
    assert read_stored({"place": "Bremen", "paper": {"a": None}}, Box, "box").paper == {"a": None}


@pytest.mark.parametrize(
    ("stored", "where"),
    [
        ({}, "place"),
        ({"place": None}, r"got `null` - at `\$\.place`"),
        ([], "got `array`"),
        ("Bremen", "got `str`"),
        ({"place": "Bremen", "first": {"name": None}}, r"\$\.first\.name"),
        ({"place": "Bremen", "first": "saw"}, r"\$\.first"),
        ({"place": "Bremen", "tools": [{"name": "saw"}, {"name": None}]}, r"\$\.tools\[1\]\.name"),
        ({"place": "Bremen", "tools": {"name": "saw"}}, r"got `object` - at `\$\.tools`"),
        ({"place": "Bremen", "tools": "saw"}, r"got `str` - at `\$\.tools`"),
        ({"place": "Bremen", "pair": [NOON_TEXT, None]}, r"\$\.pair\[1\]"),
        ({"place": "Bremen", "counts": {"a": None}}, r"\$\.counts"),
        ({"place": "Bremen", "opened": "2026-01-05T12:00:00"}, r"\$\.opened"),
    ],
)
def test_a_missing_value_and_a_wrong_one_are_refused_with_their_place(stored: object, where: str) -> None:
    with pytest.raises(BadInput, match=where) as refused:
        read_stored(stored, Box, "box")
    assert refused.value.reason == "box"


@pytest.mark.parametrize(
    ("stored", "where"),
    [
        ({"lid": 1}, "lid"),
        ({"lid": None}, "lid"),
        ({"first": {"name": "saw", "maker": "Ada", "age": 4}}, "first.age"),
        ({"tools": [{"name": "saw", "age": 4}]}, "tools.0.age"),
        ({"tools": [{"name": "saw"}, {"name": "axe"}, {"name": "awl", "age": None}], "colour": "blue"}, "tools.2.age"),
        ({"tools": [{"name": "saw", "age": 4}], "lid": 1}, "tools.0.age"),
    ],
)
def test_an_unknown_key_is_refused_with_its_path(stored: Mapping[str, object], where: str) -> None:
    with pytest.raises(BadInput) as refused:
        read_stored({"place": "Bremen", **stored}, Box, "box")
    assert (refused.value.reason, str(refused.value)) == ("box", f"box: unknown key '{where}'")


def test_the_database_gets_times_and_ids_as_text_and_every_character_as_it_is() -> None:
    one = uuid.UUID(int=7)
    text = json_text({"id": one, "at": NOON, "from": time(6, 30), "name": "Köln"}, "box")
    assert text == f'{{"id": "{one}", "at": "{NOON_TEXT}", "from": "06:30:00", "name": "Köln"}}'


class Nameless:
    """A thing whose name cannot be told, and the complaint is hostile."""

    def __str__(self) -> str:
        raise ValueError("none\x00\ud800")


def _nested(depth: int) -> object:
    inner: object = 1
    for _ in range(depth):
        inner = [inner]
    return inner


@pytest.mark.parametrize(
    ("value", "because"),
    [
        (math.nan, "it cannot be written as JSON: "),
        (math.inf, "it cannot be written as JSON: "),
        ({("a", "b"): 1}, "it cannot be written as JSON: "),
        ("half \ud800", "it cannot be written as JSON: "),
        (_nested(100_000), "it cannot be written as JSON: "),
        (Nameless(), "it cannot be written as JSON: none\ufffd?"),
        ({"a": "\x00"}, "it has a text with a NUL in it"),
        ({"a\x00": 1}, "it has a text with a NUL in it"),
        ("\\\x00", "it has a text with a NUL in it"),
        ("\\\\\x00", "it has a text with a NUL in it"),
    ],
    ids=[
        "nan",
        "infinite",
        "pair",
        "half",
        "deep",
        "nameless",
        "nul",
        "nul in name",
        "one backslash",
        "two backslashes",
    ],
)
def test_what_the_database_cannot_hold_is_refused(value: object, because: str) -> None:
    with pytest.raises(BadInput) as refused:
        json_text(value, "box")
    assert refused.value.reason == "box" and str(refused.value).startswith(f"box: {because}")


def test_a_backslash_before_the_word_of_a_nul_is_no_nul() -> None:
    assert json.loads(json_text(["\\u0000", "a\\\\u0000"], "box")) == ["\\u0000", "a\\\\u0000"]


def test_numbers_that_are_not_finite_pass_where_the_caller_lets_them() -> None:
    assert json_text([math.inf], "box", finite=False) == "[Infinity]"
    check_answer([math.inf], list[float], "loads", finite=False)
    with pytest.raises(BadInput, match="loads: it cannot be written"):
        check_answer([math.inf], list[float], "loads")


def test_an_answer_is_taken_when_it_is_what_it_should_be_to_the_last_field() -> None:
    check_answer(FULL, Box, "box")
    check_answer([FULL, Box("Bremen")], list[Box], "boxes")
    check_answer(None, Tool | None, "tool")


@pytest.mark.parametrize(
    ("answer", "into"),
    [
        (None, Box),
        (Box, Box),
        (Named, Named),
        (Tool("saw", cast("str", None)), Tool),
        (Tool(cast("str", 4)), Tool),
        ([Box("Bremen", opened=NOON.replace(tzinfo=None))], list[Box]),
        ([Tool("saw"), "axe"], list[Tool]),
        (Shelf(False), Shelf),
    ],
)
def test_an_answer_that_is_something_else_is_refused(answer: object, into: object) -> None:
    with pytest.raises(BadInput) as refused:
        check_answer(answer, into, "answer")
    assert refused.value.reason == "answer"


def test_of_an_error_the_database_gets_what_it_can_hold() -> None:
    assert storable("Köln \x00 \ud800.") == "Köln \ufffd ?."
