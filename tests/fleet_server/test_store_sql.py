"""Named statements: how their files are read, and that the server's Python holds none of its own."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_core.errors import BadConfig
from fleet_server.store.sql import Queries, queries

SERVER = Path(__file__).parents[2] / "fleet_server"
_STATEMENT = re.compile(r"\s*(?:SELECT|INSERT|UPDATE|DELETE|WITH)\s")
INLINE = {
    # does the server answer at all? It names nothing of ours
    ("store/leader.py", "SELECT 1"),
}
"""Statements that stand in Python, and why. Everything else is a named block of ``store/queries``."""


def test_blocks_by_name(tmp_path: Path) -> None:
    file = tmp_path / "some.sql"
    file.write_text("-- about\n\n-- name: one\nSELECT 1\n\n-- name: two\n-- why\nSELECT 2\n")
    found = Queries(file)
    assert found.one == "SELECT 1"
    assert found.two == "-- why\nSELECT 2"
    with pytest.raises(AttributeError, match=r"three.*one, two"):
        _ = found.three


@pytest.mark.parametrize("text", ["SELECT 0\n-- name: one\nSELECT 1\n", "-- name: a\nx\n-- name: a\ny\n"])
def test_stray_text_and_doubles_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "some.sql"
    file.write_text(text)
    with pytest.raises(BadConfig):
        Queries(file)


def test_every_file_of_the_package_loads() -> None:
    import fleet_server.store.sql as module

    files = sorted((Path(module.__file__).parent / "queries").glob("*.sql"))
    assert files
    for file in files:
        queries(file.stem)


def test_no_statement_stands_in_python() -> None:
    found = {
        (path.relative_to(SERVER).as_posix(), statement)
        for path in SERVER.rglob("*.py")
        for statement in statements_in(path.read_text(encoding="utf-8"))
    }
    assert found - INLINE == set(), "name it in store/queries, and ask for it by queries(FILE).NAME"
    assert INLINE - found == set(), "no longer there: take it off the list"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("await conn.execute('SELECT a FROM b')", ["SELECT a FROM b"]),
        ("_SQL = '''\n  INSERT INTO a\n  VALUES (1)'''", ["\n  INSERT INTO a\n  VALUES (1)"]),
        ("conn.execute(f'UPDATE {table} SET a = 1')", ["UPDATE "]),
        ("conn.execute(sql.SQL('DELETE FROM {}').format(name))", ["DELETE FROM {}"]),
        ("rights = 'SELECT, INSERT'; text = 'Select one'; word = 'UPDATED'", []),
    ],
)
def test_a_statement_in_python_is_found(text: str, expected: list[str]) -> None:
    assert list(statements_in(text)) == expected


def statements_in(text: str) -> Iterator[str]:
    """String literals that begin like a statement, wherever they stand: passed to ``execute`` or kept for it."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _STATEMENT.match(node.value):
            yield node.value
