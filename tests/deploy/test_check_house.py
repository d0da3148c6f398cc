"""`make check` looks at how the house is built: a planted fault is found, and what is allowed is not reported."""

from __future__ import annotations

import graphlib
import importlib.util
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODES = ("bearing", "host", "pump")


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_house", ROOT / "deploy" / "check_house.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


house = load()


def test_circles_are_found_one_for_each_that_has_to_be_cut() -> None:
    imports = {"a": ["b"], "b": ["c"], "c": ["a", "d"], "d": [], "e": ["f"], "f": ["e"], "g": ["a", "d"]}
    found = house.circles(imports)
    assert [frozenset(circle) for circle in sorted(found, key=len)] == [frozenset("ef"), frozenset("abc")]
    for circle in found:
        assert circle[0] == circle[-1]
        assert all(imported in imports[importer] for importer, imported in pairwise(circle))


def test_no_circle_is_no_fault() -> None:
    assert house.circles({"a": ["b", "c"], "b": ["c"], "c": []}) == []


def test_the_longest_chain_counts_modules_of_the_package_only() -> None:
    imports = {
        "p": [],
        "p.top": ["p.middle", "p.low"],
        "p.middle": ["p.low", "outside"],
        "p.low": ["outside"],
        "outside": ["further"],
        "further": [],
        "pp.other": ["p.top"],
    }
    assert house.longest_chain(imports, "p") == ("p.top", "p.middle", "p.low")
    with pytest.raises(graphlib.CycleError):
        house.longest_chain({"p.a": ["p.b"], "p.b": ["p.a"]}, "p")


@pytest.mark.parametrize(
    "text",
    [
        "if kind == 'bearing': pass",
        "if 'bearing' != kind: pass",
        "if kind in ('cell', 'bearing'): pass",
        "FALLING = {'bearing'}",
        "FALLING = frozenset(['bearing'])",
        "LIMITS = {'bearing': 2.0}",
        "match kind:\n    case 'cell' | 'bearing': pass",
        "unit(component_type='bearing')",
        "component_type = 'bearing'",
        "component_type: str = 'bearing'",
        "def read(path, component_type='bearing'): pass",
        "def read(path, *, component_type='bearing'): pass",
        "if kind == 'host': pass",
        "STANDING = {'host', 'disk'}",
    ],
)
def test_a_type_that_decides_something_is_found(text: str) -> None:
    assert [code for _, code in house.named_types(text, CODES)] in (["bearing"], ["host"])


@pytest.mark.parametrize(
    "text",
    [
        "log.info('the bearing of the pump'); log.info('bearing')",
        "re.compile('bearing')",
        "answer = {'host': host, 'port': port}",
        "row['host']",
        "def check(value, what='host'): pass",
        "name.startswith('bearing')",
        "if kind == 'bearings': pass",
    ],
)
def test_words_are_not_types(text: str) -> None:
    assert list(house.named_types(text, CODES)) == []


def test_the_line_of_a_named_type_is_told() -> None:
    assert list(house.named_types("a = 1\n\nb = {\n    'x': 1,\n    'pump': 2,\n}\n", CODES)) == [(5, "pump")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("class Act:\n    body: Any\n", [(2, "Any")]),
        ("class Act:\n    body: dict[str, Any] | None = None\n", [(2, "dict[str, Any] | None")]),
        ("class Act:\n    body: typing.Any\n", [(2, "typing.Any")]),
        ("Row = dict[str, Any]\n", [(1, "dict[str, Any]")]),
        ("def read(conn: Connection[Any]) -> list[dict[str, Any]]: ...\n", [(1, "dict[str, Any]")]),
        ("class Act:\n    body: dict[str, object]\n    at: datetime\n", []),
        ("def defer(conn: Connection[Any], given: Mapping[str, Any]) -> bool: ...\n", []),
    ],
)
def test_rows_without_types_are_found(text: str, expected: list[tuple[int, str]]) -> None:
    assert list(house.untyped_rows(text)) == expected


def test_a_fault_ends_with_one_line_and_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(house, "read_imports", lambda: {"a": ["b"], "b": ["a"]})
    assert house.main(["circles"]) == 1
    summary, fault = capsys.readouterr().out.splitlines()
    assert summary == "import circles: 1 in 2 modules"
    assert fault.startswith(("fault: import circle a -> b -> a: ", "fault: import circle b -> a -> b: "))


def test_too_many_storeys_are_a_fault(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"edge_agent.detection.m{number}" for number in range(house.MOST_STOREYS + 1)]
    chain = {name: names[place + 1 : place + 2] for place, name in enumerate(names)}
    monkeypatch.setattr(house, "read_imports", lambda: {name: chain[name] for name in names[1:]})
    assert house.main(["storeys"]) == 0
    monkeypatch.setattr(house, "read_imports", lambda: chain)
    assert house.main(["storeys"]) == 1
    assert "11 storeys, at most 10" in capsys.readouterr().out


def test_our_own_imports_are_read() -> None:
    imports = house.read_imports()
    assert "edge_agent.outbox.outbox" in imports["edge_agent.outbox"]
    assert {module.partition(".")[0] for module in imports} == set(house.PACKAGES)


def test_an_unknown_check_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        house.main(["cirlces"])
    assert "circles, storeys, names, rows" in capsys.readouterr().err
